"use strict";

const TEXTS = {
  en: {
    language: "Language",
    title: "Title of a product",
    categories: "Categories",
    doubt: "Not sure: perhaps none of these is right.",
    right: "Right",
    isRight: (category) => `${category} is the right category`,
    other: "None of these? The right category",
    save: "Save",
    corrections: "Corrections",
    kept: "They stay in this browser until you download or remove them.",
    download: "Download as csv",
    clear: "Remove all",
    remove: "Remove",
    removeOne: (title) => `Remove the correction of ${title}`,
    saved: (title, category) => `Saved: ${title}, ${category}`,
    answer: (category, share) => `${category}, ${share}`,
    reasonsFor: (words) => `For it: ${words}.`,
    reasonsAgainst: (words) => `Against it: ${words}.`,
    silent: "The service does not answer.",
    full: "This browser keeps no corrections: download them before you leave.",
  },
  es: {
    language: "Idioma",
    title: "Título de un producto",
    categories: "Categorías",
    doubt: "Dudoso: quizás ninguna de estas sea la correcta.",
    right: "Correcta",
    isRight: (category) => `${category} es la categoría correcta`,
    other: "¿Ninguna de estas? La categoría correcta",
    save: "Guardar",
    corrections: "Correcciones",
    kept: "Quedan en este navegador hasta que las descargues o las quites.",
    download: "Descargar como csv",
    clear: "Quitar todas",
    remove: "Quitar",
    removeOne: (title) => `Quitar la corrección de ${title}`,
    saved: (title, category) => `Guardada: ${title}, ${category}`,
    answer: (category, share) => `${category}, ${share}`,
    reasonsFor: (words) => `A favor: ${words}.`,
    reasonsAgainst: (words) => `En contra: ${words}.`,
    silent: "El servicio no responde.",
    full: "Este navegador no guarda correcciones: descárgalas antes de salir.",
  },
};
const TOP = 5;
const SURE = 0.5;
// Parts of the largest contribution from which on a word is marked, and marked strongly.
const MARKED = 0.15;
const STRONG = 0.6;
// A screen reader hears the answer when typing rests.
const REST_MILLISECONDS = 700;
const CORRECTIONS = "rubro.corrections";
const LANGUAGE = "rubro.language";

const byId = (id) => document.getElementById(id);
const title = byId("title");

let language = "en";
let corrections = [];
let last = null; // the title and the answer that are shown
let isAsking = false;
let announcing = 0;

const text = () => TEXTS[language];
const percent = (share) =>
  new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(share);

function element(name, className, content) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (content !== undefined) made.textContent = content; // titles are text, never markup
  return made;
}

function button(content, label, act) {
  const made = element("button", "", content);
  made.type = "button";
  made.setAttribute("aria-label", label);
  made.addEventListener("click", act);
  return made;
}

// What the browser keeps

function kept(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // it is told to keep nothing
  }
}

function keep(key, value) {
  try {
    localStorage.setItem(key, value);
    return true;
  } catch {
    return false;
  }
}

function keptCorrections() {
  try {
    const found = JSON.parse(kept(CORRECTIONS) ?? "[]");
    return found.filter((each) => typeof each.title === "string" && typeof each.category === "string");
  } catch {
    return [];
  }
}

// Answers

async function ask() {
  if (isAsking) return; // the answer under way is followed by a question for the newest title
  isAsking = true;
  try {
    for (let asked = null; asked !== title.value; ) {
      asked = title.value;
      await answer(asked);
    }
  } finally {
    isAsking = false;
  }
}

async function answer(asked) {
  if (!asked.trim()) {
    last = null;
    show();
    return;
  }
  try {
    const response = await fetch("explain", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ title: asked, top: TOP }),
    });
    const found = await response.json();
    fail(response.ok ? (found.answer.error ?? "") : found.detail);
    last = response.ok && found.answer.error === null ? { title: asked, ...found } : null;
  } catch {
    fail(text().silent);
    last = null;
  }
  show();
}

function fail(message) {
  byId("failure").textContent = message;
}

function say(message) {
  byId("status").textContent = message;
}

function show() {
  clearTimeout(announcing);
  byId("result").hidden = last === null;
  if (last === null) {
    say("");
    return;
  }
  showWords(last.title, last.words);
  const top = last.answer.top;
  const isSure = last.answer.category !== null && top[0].confidence >= SURE && !last.foreign;
  byId("doubt").hidden = isSure;
  byId("answers").replaceChildren(...top.map(row));
  const { name, hash } = last.model;
  byId("model").textContent = `${name} ${hash.slice(0, 12)}`;
  announcing = setTimeout(
    () => say(text().answer(top[0].category, percent(top[0].confidence))),
    REST_MILLISECONDS,
  );
}

function showWords(typed, words) {
  const characters = Array.from(typed); // the service counts code points
  const most = Math.max(...words.map((word) => Math.abs(word.contribution)), 0);
  const parts = [];
  const named = { for: [], against: [] };
  let position = 0;
  for (const word of words) {
    parts.push(characters.slice(position, word.start).join(""));
    position = word.end;
    const content = characters.slice(word.start, word.end).join("");
    const size = most && Math.abs(word.contribution) / most;
    if (size < MARKED) {
      parts.push(content);
      continue;
    }
    const side = word.contribution > 0 ? "for" : "against";
    named[side].push(content);
    parts.push(element("mark", size < STRONG ? side : `${side} strong`, content));
  }
  byId("words").replaceChildren(...parts, characters.slice(position).join(""));
  byId("reasons").textContent = [
    named.for.length ? text().reasonsFor(named.for.join(", ")) : "",
    named.against.length ? text().reasonsAgainst(named.against.join(", ")) : "",
  ]
    .filter(Boolean)
    .join(" ");
}

function row({ category, confidence }) {
  const made = element("li");
  const name = element("span");
  name.append(...category.split(/(?<=_)/).flatMap((part) => [part, element("wbr")]));
  const bar = element("div", "bar");
  bar.style.width = `${100 * confidence}%`;
  const track = element("div", "track");
  track.append(bar);
  const label = text().isRight(category);
  made.append(
    name,
    element("span", "share", percent(confidence)),
    button(text().right, `${text().right}: ${label}`, () => correct(category)),
    track,
  );
  return made;
}

// Corrections

function correct(category) {
  const corrected = last.title.trim();
  corrections = corrections.filter((each) => each.title !== corrected);
  corrections.push({ title: corrected, category });
  storeCorrections();
  say(text().saved(corrected, category));
}

function storeCorrections() {
  clearTimeout(announcing);
  const isKept = keep(CORRECTIONS, JSON.stringify(corrections));
  fail(isKept || !corrections.length ? "" : text().full);
  showCorrections();
}

function showCorrections() {
  byId("count").textContent = corrections.length;
  byId("download").disabled = byId("clear").disabled = !corrections.length;
  byId("corrections").replaceChildren(
    ...corrections.map((each) => {
      const made = element("li");
      const words = element("span", "", each.title);
      words.append(element("strong", "", each.category));
      const label = text().removeOne(each.title);
      made.append(
        words,
        button(text().remove, label, () => {
          corrections = corrections.filter((other) => other !== each);
          storeCorrections();
          byId("corrections-heading").focus();
        }),
      );
      return made;
    }),
  );
}

function csv() {
  const field = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const rows = [["title", "category"], ...corrections.map((each) => [each.title, each.category])];
  return rows.map((each) => `${each.map(field).join(",")}\r\n`).join("");
}

function download() {
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv;charset=utf-8" }));
  link.download = "corrections.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

// Languages

function speak(chosen) {
  language = chosen;
  document.documentElement.lang = chosen;
  byId("language").value = chosen;
  for (const each of document.querySelectorAll("[data-text]")) {
    each.textContent = text()[each.dataset.text];
  }
  show();
  showCorrections();
}

async function listCategories() {
  try {
    const { categories } = await (await fetch("categories")).json();
    byId("categories").replaceChildren(
      ...categories.map((category) => {
        const option = element("option");
        option.value = category;
        return option;
      }),
    );
  } catch {
    fail(text().silent);
  }
}

title.addEventListener("input", ask);
byId("language").addEventListener("change", (event) => {
  keep(LANGUAGE, event.target.value);
  speak(event.target.value);
});
byId("other").addEventListener("submit", (event) => {
  event.preventDefault();
  const category = byId("category").value.trim();
  if (last === null || !category) return;
  correct(category);
  byId("category").value = "";
});
byId("download").addEventListener("click", download);
byId("clear").addEventListener("click", () => {
  corrections = [];
  storeCorrections();
  title.focus();
});

corrections = keptCorrections();
speak(kept(LANGUAGE) in TEXTS ? kept(LANGUAGE) : navigator.language.startsWith("es") ? "es" : "en");
listCategories();
ask();
