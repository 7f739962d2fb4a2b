"use strict";

const TEXTS = {
  en: {
    language: "Language",
    title: "Product title",
    more: "More about the product",
    categories: "Categories",
    doubt: "Not sure: perhaps none of these is right.",
    sure: (path, share) => `Only certain about ${path}: ${share}`,
    right: "Right",
    isRight: (category) => `${category} is the right category`,
    other: "None of these? Enter the right category",
    save: "Save",
    corrections: "Corrections",
    kept: "They stay in this browser until you remove them.",
    download: "Download as CSV",
    clear: "Remove all",
    remove: "Remove",
    removeOne: (title) => `Remove the correction of ${title}`,
    saved: (title, category) => `Saved: ${title}, ${category}`,
    answer: (category, share) => `${category}, ${share}`,
    reasonsFor: (words) => `For: ${words}.`,
    reasonsAgainst: (words) => `Against: ${words}.`,
    silent: "The service does not answer.",
    full: "This browser cannot store corrections. Download them before you leave.",
  },
  es: {
    language: "Idioma",
    title: "Título de un producto",
    more: "Más sobre el producto",
    categories: "Categorías",
    doubt: "Dudoso: quizás ninguna de estas sea la correcta.",
    sure: (path, share) => `Seguro solo hasta ${path}, ${share}`,
    right: "Correcta",
    isRight: (category) => `${category} es la categoría correcta`,
    other: "¿Ninguna de estas? Escribe la categoría correcta",
    save: "Guardar",
    corrections: "Correcciones",
    kept: "Quedan en este navegador hasta que las quites.",
    download: "Descargar como CSV",
    clear: "Quitar todas",
    remove: "Quitar",
    removeOne: (title) => `Quitar la corrección de ${title}`,
    saved: (title, category) => `Guardada: ${title}, ${category}`,
    answer: (category, share) => `${category}, ${share}`,
    reasonsFor: (words) => `A favor: ${words}.`,
    reasonsAgainst: (words) => `En contra: ${words}.`,
    silent: "El servicio no responde.",
    full: "Este navegador no puede guardar correcciones. Descárgalas antes de salir.",
  },
};
const ARROW = "\u00a0› "; // between the names of a path; it does not begin a line
const TOP = 5;
const SURE = 0.5;
const MAX_CHARACTERS = 10000; // of a column
// A word is marked, or marked strongly, if its contribution is at least this share of the largest one.
const MARKED = 0.15;
const STRONG = 0.6;
// The answer is announced to screen readers when the user pauses typing.
const PAUSE_MILLISECONDS = 700;
// Browsers need some time to show the storage of one tab to another tab.
const STORAGE_MILLISECONDS = 100;
const CORRECTIONS = "rubro.corrections";
const LANGUAGE = "rubro.language";

const byId = (id) => document.getElementById(id);
const title = byId("title");

let language = "en";
let columns = []; // names of the columns that the model reads in addition to the title
let titleColumn = "title";
let paths = new Map(); // names of each category from the root, if the categories are paths
let corrections = []; // the stored corrections with the unstored changes of this tab
let unstored = []; // functions that change a list of corrections
let shown = null; // the title, the texts of the columns and the answer on the page
let isAsking = false;
let announcing = 0;

const text = () => TEXTS[language];
const percent = (share) =>
  new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(share);

function element(name, className, content) {
  const node = document.createElement(name);
  if (className) node.className = className;
  if (content !== undefined) node.textContent = content; // titles are text, never markup
  return node;
}

function button(content, label, act) {
  const node = element("button", "", content);
  node.type = "button";
  node.setAttribute("aria-label", label);
  node.addEventListener("click", act);
  return node;
}

// Browser storage

function readStored(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null; // the browser blocks storage
  }
}

function store(key, value) {
  try {
    localStorage.setItem(key, value);
    return true;
  } catch {
    return false;
  }
}

function readCorrections() {
  try {
    const found = JSON.parse(readStored(CORRECTIONS) ?? "[]");
    return found.filter(
      (each) =>
        typeof each?.title === "string" &&
        typeof each.category === "string" &&
        Object.values(each.columns ?? {}).every((value) => typeof value === "string"),
    );
  } catch {
    return [];
  }
}

// Other tabs change the stored corrections too, so a change is applied to the corrections that are stored at the time.
// Changes that cannot be stored are kept, and applied again.
function currentCorrections() {
  return unstored.reduce((found, change) => change(found), readCorrections());
}

function storeCorrections() {
  corrections = currentCorrections();
  if (unstored.length && store(CORRECTIONS, JSON.stringify(corrections))) unstored = [];
  clearTimeout(announcing);
  showFailure(unstored.length && corrections.length ? text().full : "");
  showCorrections();
}

// Only one tab at a time can run this function until its changes have reached the other tabs.
async function storeLocked(stored) {
  try {
    await navigator.locks.request(CORRECTIONS, async () => {
      const waiting = unstored.length ? STORAGE_MILLISECONDS : 0; // an earlier call may have stored all
      storeCorrections();
      stored();
      await new Promise((resume) => setTimeout(resume, waiting));
    });
  } catch {
    storeCorrections(); // browsers offer locks only with HTTPS and on localhost
    stored();
  }
}

// Returns a promise that is fulfilled when the change is stored.
function changeCorrections(change) {
  unstored.push(change);
  return new Promise(storeLocked);
}

function showStored() {
  corrections = currentCorrections();
  showCorrections();
}

// Answers

async function ask() {
  if (isAsking) return; // the loop below asks again if the title has changed meanwhile
  isAsking = true;
  try {
    for (let asked = null; asked !== JSON.stringify(product()); ) {
      asked = JSON.stringify(product());
      await answer(JSON.parse(asked));
    }
  } finally {
    isAsking = false;
  }
}

// Returns the title and the texts of the columns that are not blank.
function product() {
  const fields = [...byId("columns").querySelectorAll("textarea")];
  const filled = fields.filter((field) => field.value.trim());
  return {
    title: title.value,
    columns: Object.fromEntries(filled.map((field) => [field.name, field.value])),
  };
}

async function answer(asked) {
  const hasColumns = Object.keys(asked.columns).length > 0;
  if (!asked.title.trim()) {
    shown = null;
    show();
    return;
  }
  try {
    const response = await fetch("explain", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({
        title: hasColumns ? { [titleColumn]: asked.title, ...asked.columns } : asked.title,
        top: TOP,
        min_confidence: SURE,
      }),
    });
    const found = await response.json();
    showFailure(response.ok ? (found.answer.error ?? "") : found.detail);
    shown = response.ok && found.answer.error === null ? { ...asked, ...found } : null;
  } catch {
    showFailure(text().silent);
    shown = null;
  }
  show();
}

function showFailure(message) {
  byId("failure").textContent = message;
}

function announce(message) {
  byId("status").textContent = message;
}

function show() {
  clearTimeout(announcing);
  byId("result").hidden = shown === null;
  if (shown === null) {
    announce("");
    return;
  }
  showWords();
  const { category, confidence, path, top } = shown.answer;
  byId("doubt").hidden = category !== null && !shown.foreign;
  const isPart = path?.length > 0 && path.length < top[0].path.length;
  byId("sure").textContent = isPart ? text().sure(path.join(ARROW), percent(confidence)) : "";
  byId("answers").replaceChildren(...top.map(row));
  const { name, hash } = shown.model;
  byId("model").textContent = `${name} ${hash.slice(0, 12)}`;
  announcing = setTimeout(
    () => announce(text().answer(pathText(top[0].category, top[0].path), percent(top[0].confidence))),
    PAUSE_MILLISECONDS,
  );
}

function showWords() {
  const largest = Math.max(...shown.words.map((word) => Math.abs(word.contribution)), 0);
  const named = { for: [], against: [] };
  const wordsOf = (name) => shown.words.filter(({ column = titleColumn }) => column === name);
  byId("words").replaceChildren(...marked(shown.title, wordsOf(titleColumn), largest, named));
  byId("column-words").replaceChildren(
    ...Object.entries(shown.columns).flatMap(([column, typed]) => {
      const content = element("dd");
      content.append(...marked(typed, wordsOf(column), largest, named));
      return [element("dt", "quiet", column), content];
    }),
  );
  byId("reasons").textContent = [
    named.for.length ? text().reasonsFor(named.for.join(", ")) : "",
    named.against.length ? text().reasonsAgainst(named.against.join(", ")) : "",
  ]
    .filter(Boolean)
    .join(" ");
}

// Returns a text with marks around its words that support or contradict the first category, and names these words.
function marked(typed, words, largest, named) {
  const characters = Array.from(typed); // the service counts code points
  const parts = [];
  let position = 0;
  for (const word of words) {
    parts.push(characters.slice(position, word.start).join(""));
    position = word.end;
    const content = characters.slice(word.start, word.end).join("");
    const size = largest && Math.abs(word.contribution) / largest;
    if (size < MARKED) {
      parts.push(content);
      continue;
    }
    const side = word.contribution > 0 ? "for" : "against";
    named[side].push(content);
    parts.push(element("mark", size < STRONG ? side : `${side} strong`, content));
  }
  return [...parts, characters.slice(position).join("")];
}

// Returns the names from the root. In the category itself, they may be in another order, such as leaf first.
function pathText(category, path = paths.get(category)) {
  return path ? path.join(ARROW) : category;
}

// Returns the name of a category; the ancestors in a path are small.
function categoryName(category, path) {
  const broken = (name) => name.split(/(?<=_)/).flatMap((part) => [part, element("wbr")]);
  const name = element("span");
  if (!path) {
    name.append(...broken(category));
    return name;
  }
  const ancestors = path.slice(0, -1).join(ARROW);
  if (ancestors) name.append(element("span", "ancestors quiet", ancestors + ARROW), element("wbr"));
  const leaf = element("strong", "leaf");
  leaf.append(...broken(path.at(-1)));
  name.append(leaf);
  return name;
}

function row({ category, confidence, path }) {
  const node = element("li");
  const bar = element("div", "bar");
  bar.style.width = `${100 * confidence}%`;
  const track = element("div", "track");
  track.append(bar);
  const label = text().isRight(pathText(category, path));
  node.append(
    categoryName(category, path),
    element("span", "share", percent(confidence)),
    button(text().right, `${text().right}: ${label}`, () => correct(category)),
    track,
  );
  return node;
}

// Corrections

// Identifies a product; a product without columns is its title.
function productKey({ title, columns }) {
  return JSON.stringify([title, Object.entries(columns ?? {}).sort()]);
}

async function correct(category) {
  const corrected = { title: shown.title.trim() };
  const texts = Object.entries(shown.columns).map(([name, typed]) => [name, typed.trim()]);
  if (texts.length) corrected.columns = Object.fromEntries(texts);
  const key = productKey(corrected);
  await changeCorrections((found) => [
    ...found.filter((each) => productKey(each) !== key),
    { ...corrected, category },
  ]);
  announce(text().saved(corrected.title, pathText(category)));
}

// Other tabs may have added corrections that this tab does not show yet, and that stay.
async function remove(removed) {
  const key = (each) => JSON.stringify([productKey(each), each.category]);
  const keys = new Set(removed.map(key));
  await changeCorrections((found) => found.filter((each) => !keys.has(key(each))));
}

function showCorrections() {
  byId("count").textContent = corrections.length;
  byId("download").disabled = byId("clear").disabled = !corrections.length;
  byId("corrections").replaceChildren(
    ...corrections.map((each) => {
      const node = element("li");
      const words = element("span", "", each.title);
      const more = Object.values(each.columns ?? {}).join(" · ");
      if (more) words.append(element("span", "more quiet", more));
      const name = categoryName(each.category, paths.get(each.category));
      name.className = "corrected";
      words.append(name);
      const label = text().removeOne(each.title);
      node.append(
        words,
        button(text().remove, label, async () => {
          await remove([each]);
          byId("corrections-heading").focus();
        }),
      );
      return node;
    }),
  );
}

function csv() {
  const field = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const stored = corrections.flatMap((each) => Object.keys(each.columns ?? {}));
  const fixed = ["title", "category"];
  // A column that has one of these names itself is left out.
  const names = [...new Set([...columns, ...stored])].filter((name) => !fixed.includes(name));
  const rows = [
    [...fixed, ...names],
    ...corrections.map((each) => [
      each.title,
      each.category,
      ...names.map((name) => each.columns?.[name] ?? ""),
    ]),
  ];
  return rows.map((each) => `${each.map(field).join(",")}\r\n`).join("");
}

function download() {
  showStored();
  const link = element("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv;charset=utf-8" }));
  link.download = "corrections.csv";
  link.click();
  URL.revokeObjectURL(link.href);
}

// Languages

function setLanguage(chosen) {
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
    const [{ categories, paths: found }, version] = await Promise.all(
      ["categories", "version"].map(async (path) => (await fetch(path)).json()),
    );
    if (found) {
      paths = new Map(categories.map((category, place) => [category, found[place]]));
      // Categories with the same ancestors are listed together.
      categories.sort((one, other) => pathText(one).localeCompare(pathText(other), language));
    }
    byId("categories").replaceChildren(
      ...categories.map((category) => {
        const option = element("option");
        option.value = category;
        return option;
      }),
    );
    [titleColumn, ...columns] = version.columns ?? [titleColumn];
    showColumns();
    showCorrections();
  } catch {
    showFailure(text().silent);
  }
}

function showColumns() {
  byId("more").hidden = !columns.length;
  byId("columns").replaceChildren(
    ...columns.map((name) => {
      const label = element("label", "", name);
      const field = element("textarea");
      field.name = name;
      field.rows = 1;
      field.maxLength = MAX_CHARACTERS;
      field.spellcheck = false;
      field.addEventListener("input", ask);
      label.append(field);
      return label;
    }),
  );
}

// Returns the category that the user has entered: its name, or the last name of its path if no other path ends with it.
function enteredCategory(entered) {
  const isLeaf = ([, path]) => path.at(-1).toLowerCase() === entered.toLowerCase();
  const found = paths.has(entered) ? [] : [...paths].filter(isLeaf);
  return found.length === 1 ? found[0][0] : entered;
}

title.addEventListener("input", ask);
byId("language").addEventListener("change", (event) => {
  store(LANGUAGE, event.target.value);
  setLanguage(event.target.value);
});
byId("other").addEventListener("submit", (event) => {
  event.preventDefault();
  const category = byId("category").value.trim();
  if (shown === null || !category) return;
  correct(enteredCategory(category));
  byId("category").value = "";
});
byId("download").addEventListener("click", download);
byId("clear").addEventListener("click", async () => {
  await remove(corrections);
  title.focus();
});
addEventListener("pagehide", storeCorrections); // without waiting for a lock
addEventListener("storage", showStored); // another tab has changed something
addEventListener("pageshow", showStored); // the browser may show the page as it was

corrections = readCorrections();
setLanguage(readStored(LANGUAGE) in TEXTS ? readStored(LANGUAGE) : navigator.language.startsWith("es") ? "es" : "en");
listCategories();
ask();
