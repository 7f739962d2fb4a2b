// The model that the service uses: its categories, its columns and its predictions.

import { byId, element, fold } from "./dom.js";
import { currentLanguage, percent, text } from "./language.js";

export const ARROW = "\u00a0› "; // between the names of a path; it does not begin a line
export const TOP = 5;
const SURE = 0.5; // minimum confidence if the service has no thresholds
const MAX_NEAR = 3; // names that are offered instead of a new one

export let columns = []; // names of the columns that the model reads in addition to the title
export let titleColumn = "title";
export let categoryColumns = ["category"]; // several if each contains a level of the category paths
export let categories = [];
export let paths = new Map(); // names of each category from the root, if the categories are paths

export let summary = null; // the answer to GET /model
export let promised = null; // precision that the thresholds of the service promise; null = it has none

// Reads the categories, the columns and the summary of the model that the service uses.
export async function readModel() {
  const [found, version, about] = await Promise.all(
    ["categories", "version", "model"].map(async (path) => (await fetch(path)).json()),
  );
  summary = about;
  promised = version.promised_precision ?? null;
  categories = found.categories;
  categoryColumns = found.category_columns;
  [titleColumn, ...columns] = version.columns ?? [found.title_column];
  if (found.paths) {
    paths = new Map(categories.map((category, place) => [category, found.paths[place]]));
    // Categories with the same ancestors are listed together.
    categories.sort((one, other) => pathText(one).localeCompare(pathText(other), currentLanguage()));
  }
}

export function listCategories(id, names) {
  byId(id).replaceChildren(
    ...names.map((name) => {
      const option = element("option");
      option.value = name;
      return option;
    }),
  );
}

// A request that the service has not answered. Status 0 stands for no answer at all.
class Refusal extends Error {
  constructor(message, status = 0, seconds = 1) {
    super(message);
    this.status = status;
    this.seconds = seconds; // until the service wants to be asked again
  }
}

// Sends a request, and returns the content of the answer. An aborted request raises the reason of its signal.
export async function send(path, content, { method = "POST", signal } = {}) {
  let response;
  let found;
  try {
    const headers = { "Content-Type": "application/json" };
    response = await fetch(path, { method, headers, body: JSON.stringify(content), signal });
    found = await response.json();
  } catch {
    signal?.throwIfAborted();
    if (!response) throw new Refusal(text().silent);
  }
  if (response.ok && found) return found;
  // A proxy may answer with a page of its own.
  const seconds = Number(response.headers.get("Retry-After")) || 1;
  throw new Refusal(found?.detail ?? text().refused(response.status), response.status, seconds);
}

// Returns a product, whose columns may be missing, as the service reads it.
export function requested({ title, columns: texts = {} }) {
  return Object.keys(texts).length ? { [titleColumn]: title, ...texts } : title;
}

// Sends a correction to the service, or withdraws it.
export async function sendCorrection({ title, category, columns: texts }, isWithdrawn) {
  const key = columns.includes("title") ? titleColumn : "title"; // another column may be called title
  await send("corrections", { ...texts, [key]: title, category }, { method: isWithdrawn ? "DELETE" : "POST" });
}

// Asks the service about a product, and returns the content of its answer.
export async function askService(path, product, settings) {
  const found = await send(path, { [path === "predict" ? "titles" : "title"]: requested(product), ...settings });
  const answer = found.answer ?? found.answers[0];
  if (answer.error !== null) throw new Error(answer.error);
  return { ...found, answer };
}

// Returns the minimum confidence to ask for; if the service has thresholds, only they decide.
export const minConfidence = () => (promised === null ? SURE : 0);

// Returns the reason why no category of an answer is accepted; "" = one is.
export function rejection({ category, confidence, threshold = SURE }) {
  if (category !== null) return "";
  if (threshold === null) return text().neverAccepted;
  return confidence < threshold ? text().below(percent(threshold)) : text().foreign;
}

// Returns the names from the root. In the category itself, they may be in another order, such as leaf first.
export function pathText(category, path = paths.get(category)) {
  return path ? path.join(ARROW) : category;
}

// Returns the name of a category; the ancestors in a path are small.
export function categoryName(category, path = paths.get(category)) {
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

const leaf = (name) => paths.get(name)?.at(-1) ?? name;

// Returns the known category that the user has entered: its name, the last name of its path, or either of them in
// another case or without accents, if only one category has this name. Otherwise, returns null.
export function knownCategory(entered, known = categories) {
  const tests = [
    (name) => name === entered,
    (name) => leaf(name) === entered,
    (name) => fold(name) === fold(entered) || fold(leaf(name)) === fold(entered),
  ];
  for (const test of tests) {
    const found = known.filter(test);
    if (found.length === 1) return found[0];
  }
  return null;
}

// Returns the categories whose names contain the entered name, or differ from it in few characters, nearest first.
export function nearCategories(entered) {
  const simple = (name) => fold(name).replaceAll(/[^\p{L}\p{N}]+/gu, " ").trim();
  const name = simple(entered);
  const distance = (category) => {
    const other = simple(leaf(category));
    const isPart = Math.min(name.length, other.length) > 2 && (other.includes(name) || name.includes(other));
    const edits = editDistance(name, other);
    return isPart || edits <= name.length / 3 ? edits : Infinity;
  };
  const found = categories.map((category) => [distance(category), category]);
  const near = found.filter(([edits]) => edits < Infinity).sort(([one], [other]) => one - other);
  return near.slice(0, MAX_NEAR).map(([, category]) => category);
}

// Returns the number of characters to insert, delete or replace. Source: Wagner and Fischer 1974, The String-to-String
// Correction Problem.
function editDistance(one, other) {
  let last = Array.from({ length: other.length + 1 }, (_, place) => place);
  for (let row = 1; row <= one.length; row++) {
    const next = [row];
    for (let place = 1; place <= other.length; place++) {
      const replacement = last[place - 1] + (one[row - 1] === other[place - 1] ? 0 : 1);
      next.push(Math.min(replacement, last[place] + 1, next[place - 1] + 1));
    }
    last = next;
  }
  return last.at(-1);
}
