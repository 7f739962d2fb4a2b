// The view of a file of titles: one title at a time, which the user labels or corrects with single keys.

import { CsvError } from "./csv.js";
import {
  announce,
  button,
  byId,
  element,
  fold,
  onClick,
  onFile,
  onStored,
  readStored,
  saveFile,
  session,
  showFailure,
  showItems,
  store,
} from "./dom.js";
import { percent, text } from "./language.js";
import { askService, categories, categoryName, knownCategory, listCategories, pathText, TOP } from "./model.js";
import { CATEGORY, LABEL, Queue, readText, SKIPPED, SUGGESTED } from "./queue.js";

const OPEN = "rubro.file"; // name and content of the open file, so that a reload shows it again
const MAX_NAMES = 5; // unknown categories in a message

const view = byId("queue");
const search = byId("queue-category");

let queue = null;
let unknown = []; // categories of the file that the model does not know
let predictions = new Map(); // of the rows without suggestions in the file
let proposed = ""; // new category that the user has entered once
let last = ""; // the last decision, as a text

// Opening

export async function openFile(file, name = file.name) {
  await attempt(name, async () => open(name, await readText(file)));
}

// Opens the file that was open before a reload, or the file of rubro serve --queue.
export async function openFirst() {
  const kept = readStored(OPEN, session);
  if (kept) {
    const [name, content] = JSON.parse(kept);
    await attempt(name, () => open(name, content));
    return;
  }
  try {
    const response = await fetch("queue");
    if (response.status !== 200) return;
    const name = decodeURIComponent(response.headers.get("Content-Location"));
    const file = await response.blob();
    location.hash = "queue";
    await openFile(file, name);
  } catch {
    // The view of one title reports that the service does not answer.
  }
}

async function attempt(name, act) {
  try {
    await act();
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    showFailure(`${name}: ${text().csv[error.kind](...error.values)}`, "queue-failure");
  }
}

function open(name, content) {
  queue = new Queue(name, content);
  predictions = new Map();
  last = "";
  // If the file is too large to be kept, the user opens it again after a reload.
  if (!store(OPEN, JSON.stringify([name, content]), session)) store(OPEN, null, session);
  listKnown();
  showFailure("", "queue-failure");
  showQueue();
  announceTitle();
}

function listKnown() {
  unknown = queue.unknownCategories();
  listCategories("queue-categories", [...categories, ...unknown]);
}

function close() {
  queue = null;
  store(OPEN, null, session);
  showQueue();
  byId("queue-file").focus();
}

// One title

export function showQueue() {
  byId("queue-open").hidden = queue !== null;
  for (const each of view.querySelectorAll(".work")) each.hidden = queue === null;
  if (queue === null) return;
  const { decided, skipped, all } = queue.counts();
  byId("queue-name").textContent = queue.name;
  byId("queue-progress").textContent = text().progressed(decided, all, skipped);
  byId("queue-bar").max = all;
  byId("queue-bar").value = decided;
  byId("queue-unknown").textContent = unknown.length && categories.length ? text().unknown(listed(unknown)) : "";
  byId("queue-last").textContent = last;
  byId("queue-done").textContent = queue.current === null ? text().done(skipped) : "";
  byId("card").hidden = byId("skip").hidden = queue.current === null;
  byId("revisit").hidden = queue.current !== null || !skipped;
  byId("undo").disabled = !queue.undoable.length;
  byId("queue-clear").disabled = !queue.decisions.size;
  if (queue.current !== null) showCard(queue.current);
  keepFocus();
}

// Shows the decisions that other tabs have stored.
function refresh() {
  if (queue === null) return;
  queue.readDecisions();
  queue.current ??= queue.next(-1); // another tab may have taken a decision back
  showQueue();
}

function listed(names) {
  const more = names.length - MAX_NAMES;
  return names.slice(0, MAX_NAMES).map((name) => pathText(name)).join(", ") + (more > 0 ? text().andMore(more) : "");
}

function showCard(row) {
  const { isAudit } = queue.roles;
  const words = isAudit ? queue.field(row, "words") : "";
  byId("card-title").replaceChildren(...markedTitle(queue.field(row, "title"), words));
  const further = queue.further(row);
  byId("card-more").hidden = !further.length;
  byId("card-columns").replaceChildren(
    ...further.flatMap(([name, value]) => [element("dt", "quiet", name), element("dd", "", value)]),
  );
  const decision = queue.decision(row);
  byId("card-decided").textContent = decision === undefined ? "" : text().decidedBefore(decisionText(row, decision));
  byId("card-sides").hidden = !isAudit;
  byId("card-choices").hidden = isAudit;
  byId("card-words").textContent = words ? text().wordsFor(words) : "";
  if (isAudit) {
    showSide("card-label", queue.field(row, "label"), queue.field(row, "labelShare"));
    showSide("card-suggested", queue.field(row, "suggested"), queue.field(row, "share"));
    byId("change").disabled = !queue.field(row, "suggested");
  } else {
    showChoices(row);
  }
}

function showSide(id, category, share) {
  byId(id).replaceChildren(categoryName(category));
  byId(`${id}-share`).textContent = shareText(share);
}

function shareText(share) {
  const number = Number(String(share).replace(",", ".")); // rubro next may write decimal commas
  return share !== "" && Number.isFinite(number) ? percent(number) : "";
}

// Returns the title with marks around the words that support the suggested category.
function markedTitle(title, words) {
  const named = new Set(fold(words).match(/\p{N}+|\p{L}+/gu));
  return title
    .split(/(\p{N}+|[\p{L}\p{M}]+)/u)
    .map((part) => (named.has(fold(part)) ? element("mark", "for", part) : part));
}

// Returns the suggested categories and their probabilities, from the file or, if it has none, from the service.
function choicesOf(row) {
  const named = queue.suggestions(row).map((category) => ({ category }));
  if (named.length) named[0].confidence = queue.field(row, "share");
  return named.length ? named : (predictions.get(row) ?? []);
}

function showChoices(row) {
  const choices = choicesOf(row).map(({ category, confidence }, place) => {
    const choice = button("", null, () => choose(category));
    choice.setAttribute("aria-keyshortcuts", place + 1);
    choice.append(element("kbd", "", place + 1), " ", categoryName(category));
    choice.append(" ", element("span", "share quiet", shareText(confidence ?? "")));
    return choice;
  });
  showItems("card-choices", choices);
  predict(row);
}

// Asks the service about a row without suggestions and, because it is shown next, about the row after it.
async function predict(row) {
  const asked = queue;
  for (const each of [row, asked.next(row)]) {
    if (each === null || predictions.has(each) || asked.suggestions(each).length) continue;
    predictions.set(each, []);
    let failure = "";
    try {
      const { answer } = await askService("predict", asked.product(each), { top: TOP });
      if (asked !== queue) return;
      predictions.set(each, answer.top);
    } catch (error) {
      if (asked !== queue) return;
      predictions.delete(each);
      failure = error.message;
    }
    if (each !== queue.current) continue;
    if (failure) {
      showFailure(failure, "queue-failure");
    } else {
      showChoices(each);
      announceTitle();
    }
  }
}

// Announces the title and its categories.
function announceTitle() {
  if (view.hidden || queue === null) return;
  const { current } = queue;
  if (current === null) {
    announce([last, byId("queue-done").textContent].join(" "));
    return;
  }
  const title = queue.field(current, "title");
  const named = queue.roles.isAudit
    ? [
        `${text().currentLabel}: ${pathText(queue.field(current, "label"))}`,
        `${text().suggestedCategory}: ${pathText(queue.field(current, "suggested"))}`,
      ]
    : choicesOf(current).map(({ category }, place) => `${place + 1} ${pathText(category)}`);
  const progress = byId("queue-progress").textContent;
  announce([last, `${title}.`, named.length ? `${named.join(", ")}.` : "", progress].filter(Boolean).join(" "));
}

export function focusView() {
  view.focus({ preventScroll: true });
}

// Moves the focus to the view if the focused element has disappeared, so that the keys still work.
function keepFocus() {
  const { activeElement } = document;
  const isLost = activeElement === document.body || activeElement.disabled || activeElement.closest("[hidden]");
  if (!view.hidden && isLost) focusView();
}

// Decisions

function decisionText(row, decision) {
  if (decision === SKIPPED) return text().skipped;
  if (decision === LABEL) return pathText(queue.field(row, "label"));
  if (decision === SUGGESTED) return pathText(queue.field(row, "suggested"));
  return pathText(decision.slice(CATEGORY.length));
}

function decide(decision) {
  if (queue?.current == null) return;
  const { current } = queue;
  last = text().decided(queue.field(current, "title"), decisionText(current, decision));
  queue.decide(decision);
  afterChange();
}

function afterChange() {
  search.value = proposed = "";
  showFailure(queue.unstored.size ? text().fullQueue : "", "queue-failure");
  showQueue();
  announceTitle();
}

function choose(category) {
  const { isAudit } = queue.roles;
  if (isAudit && category === queue.field(queue.current, "label")) decide(LABEL);
  else if (isAudit && category === queue.field(queue.current, "suggested")) decide(SUGGESTED);
  else decide(CATEGORY + category);
}

function undo() {
  if (!queue?.undoable.length) return;
  queue.undo();
  last = "";
  afterChange();
}

function chooseEntered() {
  const entered = search.value.trim();
  if (!entered || queue?.current == null) return;
  const known = knownCategory(entered, [...categories, ...unknown]);
  if (known === null && (queue.roles.isAudit || proposed !== entered)) {
    proposed = entered;
    showFailure((queue.roles.isAudit ? text().noCategory : text().newCategory)(entered), "queue-failure");
    return;
  }
  choose(known ?? entered);
  if (known === null) listKnown();
  focusView();
}

// Keys work while the focus is in the view, but not in fields.

const KEYS = { k: "keep", c: "change", s: "skip", u: "undo" };

// Clicks the control that a key belongs to, and returns whether there is one.
function act(key) {
  if (key === "/") {
    search.focus();
    search.select();
    return true;
  }
  const control = byId(KEYS[key]) ?? byId("card-choices").querySelectorAll("button")[Number(key) - 1];
  if (!control || control.closest("[hidden]")) return false;
  control.click(); // a disabled button ignores it
  return true;
}

view.addEventListener("keydown", (event) => {
  const isField = event.target.matches("input");
  if (isField && event.key === "Escape") focusView();
  if (queue === null || isField || event.repeat || event.altKey || event.metaKey) return;
  const key = event.key.toLowerCase();
  if (event.ctrlKey && key !== "z") return;
  if (act(event.ctrlKey ? "u" : key)) event.preventDefault();
});

onClick("keep", () => decide(LABEL));
onClick("change", () => decide(SUGGESTED));
onClick("skip", () => decide(SKIPPED));
onClick("undo", undo);
onClick("revisit", () => {
  queue.revisit();
  afterChange();
});
onClick("queue-download", () => {
  refresh();
  saveFile(queue.fileName(), queue.csv());
});
onClick("queue-close", close);
onClick("queue-clear", () => {
  if (!confirm(text().clearConfirmed(queue.name))) return;
  queue.clear();
  last = "";
  afterChange();
});
byId("search").addEventListener("submit", (event) => {
  event.preventDefault();
  chooseEntered();
});
onFile("queue-file", (file) => openFile(file));
onStored((key) => queue?.owns(key), refresh);
