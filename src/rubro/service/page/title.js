// The view of one title: its categories and the words that support them.

import { announce, button, byId, element, onClick, showFailure, showItems } from "./dom.js";
import { correct, correctedCategory, withdraw } from "./corrections.js";
import { currentLanguage, percent, text } from "./language.js";
import {
  ARROW,
  askService,
  categories,
  categoryName,
  columns,
  knownCategory,
  listCategories,
  minConfidence,
  nearCategories,
  pathText,
  promised,
  readModel,
  rejection,
  summary,
  titleColumn,
  TOP,
} from "./model.js";

const MAX_CHARACTERS = 10000; // of a column
// A word is marked, or marked strongly, if its contribution is at least this share of the largest one.
const MARKED = 0.15;
const STRONG = 0.6;
// The answer is announced to screen readers when the user pauses typing.
const PAUSE_MILLISECONDS = 700;

const title = byId("title");

let shown = null; // the title, the texts of the columns and the answer on the page
let saved; // the category that the user has chosen for it; undefined = none
let isAsking = false;
let announcing = 0;
let proposed = ""; // new category that the user has entered and not confirmed

export async function ask() {
  if (isAsking) return; // the loop below asks again if the title has changed meanwhile
  isAsking = true;
  byId("result").classList.add("waiting");
  try {
    for (let asked = null; asked !== JSON.stringify(product()); ) {
      asked = JSON.stringify(product());
      await answer(JSON.parse(asked));
    }
  } finally {
    isAsking = false;
    byId("result").classList.remove("waiting");
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
  let failure = "";
  if (asked.title.trim()) {
    const settings = { top: TOP, min_confidence: minConfidence() };
    try {
      found = { ...asked, ...(await askService("explain", asked, settings)) };
    } catch (error) {
      failure = error.message;
    }
  }
  showFailure(failure);
  byId("retry").hidden = !failure;
  shown = found;
  proposed = "";
  showTitle();
  if (summary && found && found.model.hash !== summary.model.hash) await readNewModel();
}

async function readNewModel() {
  const before = columns.join("\n");
  try {
    await readModel();
  } catch {
    return; // the next answer tries again
  }
  showModel();
  if (columns.join("\n") !== before) showColumns();
}

// Shows the facts about the model, and the titles to try.
export function showModel() {
  if (!summary) return;
  listCategories("categories", categories);
  const { model, date, categories: count, examples } = summary;
  const written = new Intl.DateTimeFormat(currentLanguage(), { dateStyle: "long", timeZone: "UTC" }).format(new Date(date));
  const promise = promised === null ? [] : [text().promise(percent(promised))];
  const facts = [model.name, text().categoryCount(count), written, ...promise, model.hash.slice(0, 12)];
  byId("model").textContent = facts.join(" · ");
  byId("try").hidden = !examples.length;
  const tryExample = (example) => () => {
    title.value = example;
    title.focus();
    ask();
  };
  showItems("examples", examples.map((example) => button(example, example, tryExample(example))));
}

export function showTitle() {
  clearTimeout(announcing);
  byId("result").hidden = shown === null;
  byId("empty").hidden = shown !== null || title.value.trim() !== "";
  if (shown === null) {
    announce("");
    return;
  }
  showAnswer();
  const { top } = shown.answer;
  const parts = [text().answer(pathText(top[0].category, top[0].path), percent(top[0].confidence))];
  parts.push(byId("doubt").textContent, byId("sure").textContent);
  announcing = setTimeout(() => announce(parts.filter(Boolean).join(". ")), PAUSE_MILLISECONDS);
}

function showAnswer() {
  showWords();
  const { confidence, path, top } = shown.answer;
  saved = correctedCategory(shown);
  const isPart = path?.length > 0 && path.length < top[0].path.length;
  byId("sure").textContent = isPart ? text().sure(path.join(ARROW), percent(confidence)) : "";
  byId("doubt").textContent = doubt();
  byId("first").replaceChildren(...first(top[0]));
  byId("answers").replaceChildren(...top.slice(1).map((each, place) => row(each, place + 2)));
  byId("others-heading").hidden = top.length < 2;
  const isFurther = saved !== undefined && !top.some(({ category }) => category === saved);
  byId("further").replaceChildren(...(isFurther ? [categoryName(saved), savedMark()] : []));
  showProposal();
}

// Returns the reason why the answer is not accepted; "" = it is.
function doubt() {
  return shown.foreign ? text().foreign : rejection(shown.answer);
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

function bar(confidence) {
  const node = element("span", "bar");
  node.style.width = `${100 * confidence}%`;
  return node;
}

// Returns a button that chooses a category.
function candidate(category, key, ...content) {
  const node = button("", null, () => save(category));
  node.className = "candidate";
  node.setAttribute("aria-keyshortcuts", key);
  node.append(...content);
  return node;
}

// Returns a note that a category is saved, with a button that takes it back.
function savedMark() {
  const undo = button(text().undo, text().undoSaved(shown.title.trim()), () => {
    withdraw(shown);
    selectTitle();
  });
  undo.className = "undo";
  const node = element("span", "saved row");
  node.append(element("span", "", `✓ ${text().isSaved}`), undo);
  return node;
}

function first({ category, confidence, path }) {
  const name = categoryName(category, path);
  name.className = "answer";
  const track = element("span", "track");
  track.append(bar(confidence));
  const isSaved = saved === category;
  const key = element("kbd", "", "Enter");
  const action = isSaved ? savedMark() : candidate(category, "1 Enter", `✓ ${text().right} `, key);
  return [name, element("span", "share", percent(confidence)), action, track];
}

function row({ category, confidence, path }, key) {
  const node = element("li");
  const number = element("kbd", "", key);
  number.ariaHidden = "true";
  const share = element("span", "share", percent(confidence));
  node.append(candidate(category, key, bar(confidence), number, categoryName(category, path), share));
  if (saved === category) node.append(savedMark());
  return node;
}

// Puts the focus on the title, and selects it so that the next one replaces it.
function selectTitle() {
  title.focus();
  title.select();
}

function save(category) {
  // The answer may belong to a title that has been changed meanwhile.
  if (shown === null || JSON.stringify(product()) !== JSON.stringify({ title: shown.title, columns: shown.columns })) return;
  clearTimeout(announcing);
  proposed = "";
  byId("category").value = "";
  correct(shown, category);
  selectTitle();
}

export function confirmFirst() {
  if (shown !== null) save(shown.answer.top[0].category);
}

export function clearTitle() {
  title.value = "";
  for (const field of byId("columns").querySelectorAll("textarea")) field.value = "";
  title.focus();
  ask();
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

// Asks whether a name that no category has is meant as a new category, and offers categories with similar names.
function showProposal() {
  byId("proposal").hidden = !proposed;
  if (!proposed) return;
  const near = nearCategories(proposed);
  byId("proposal-text").textContent = text().newCategory(proposed) + (near.length ? ` ${text().near}` : "");
  const choice = (category) => button(pathText(category), null, () => save(category));
  showItems("near", near.map(choice));
}

title.addEventListener("input", () => {
  if (!title.value.trim()) showTitle(); // the first answer may be slow
  ask();
});
byId("other").addEventListener("submit", (event) => {
  event.preventDefault();
  const entered = byId("category").value.trim();
  if (shown === null || !entered) return;
  const known = knownCategory(entered);
  if (known !== null || proposed === entered) {
    save(known ?? entered);
    return;
  }
  proposed = entered;
  showProposal();
  announce(byId("proposal-text").textContent);
});
byId("category").addEventListener("input", () => {
  proposed = "";
  showProposal();
});
onClick("use-new", () => save(proposed));
addEventListener("corrections", () => {
  // Another tab may have corrected the title.
  if (shown !== null && correctedCategory(shown) !== saved) showAnswer();
});
