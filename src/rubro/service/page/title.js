// The view of one title: its categories and the words that support them.

import { announce, button, byId, element, showFailure } from "./dom.js";
import { correct } from "./corrections.js";
import { percent, text } from "./language.js";
import { ARROW, askService, categoryName, columns, enteredCategory, pathText, titleColumn, TOP } from "./model.js";

const SURE = 0.5;
const MAX_CHARACTERS = 10000; // of a column
// A word is marked, or marked strongly, if its contribution is at least this share of the largest one.
const MARKED = 0.15;
const STRONG = 0.6;
// The answer is announced to screen readers when the user pauses typing.
const PAUSE_MILLISECONDS = 700;

const title = byId("title");

let shown = null; // the title, the texts of the columns and the answer on the page
let isAsking = false;
let announcing = 0;

export async function ask() {
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
  let found = null;
  if (asked.title.trim()) {
    try {
      found = { ...asked, ...(await askService("explain", asked, { top: TOP, min_confidence: SURE })) };
      showFailure("");
    } catch (error) {
      showFailure(error.message);
    }
  }
  shown = found;
  showTitle();
}

export function showTitle() {
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
    button(text().right, `${text().right}: ${label}`, () => save(category)),
    track,
  );
  return node;
}

async function save(category) {
  clearTimeout(announcing);
  await correct(shown, category);
}

export function showColumns() {
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

title.addEventListener("input", ask);
byId("other").addEventListener("submit", (event) => {
  event.preventDefault();
  const category = byId("category").value.trim();
  if (shown === null || !category) return;
  save(enteredCategory(category));
  byId("category").value = "";
});
