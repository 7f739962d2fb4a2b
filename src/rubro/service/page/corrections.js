// Corrections of products, which the browser stores and all open tabs share. If the service collects corrections, they
// are sent to it too.

import {
  announce,
  button,
  byId,
  element,
  onClick,
  onStored,
  readStored,
  saveFile,
  showFailure,
  store,
  storedKeys,
} from "./dom.js";
import { formatCsv } from "./csv.js";
import { text } from "./language.js";
import { categoryName, columns, pathText, sendCorrection, summary } from "./model.js";

const PREFIX = "rubro.correction.";
const LIST = "rubro.corrections"; // earlier versions stored all corrections in one list
const MAX_LISTED = 50;

// Each correction has a key of its own in the storage, so tabs cannot overwrite the corrections of each other. It has
// the fields title, columns, category, changed (milliseconds) and sent, which is the category that the service has
// collected. The category null means that the correction was removed, but that the service still has it.
const unstored = new Map(); // corrections that the browser cannot store, by key; null = remove the key
let all = new Map(); // corrections by key, oldest first, with the removed ones that must be sent
let corrections = []; // corrections that are not removed, oldest first
let removed = []; // corrections that were removed last in this tab, and can be restored
const replaced = new Map(); // category of a product before its last correction in this tab, by key
let isListedWhole = false;
let sending = Promise.resolve();

// Returns the title and the columns of a product without white space around them.
function trimmed({ title, columns }) {
  const texts = Object.entries(columns ?? {}).map(([name, typed]) => [name, typed.trim()]);
  return { title: title.trim(), ...(texts.length ? { columns: Object.fromEntries(texts.sort()) } : {}) };
}

const keyOf = (product) => PREFIX + JSON.stringify(trimmed(product));

const isText = (value) => typeof value === "string";

function parsed(content) {
  try {
    return JSON.parse(content);
  } catch {
    return null;
  }
}

function isCorrection(each) {
  const isKnown = isText(each?.category) || (each?.category === null && isText(each.sent));
  return isKnown && isText(each.title) && Object.values(each.columns ?? {}).every(isText);
}

function readCorrections() {
  const stored = storedKeys(PREFIX).map((key) => [key, parsed(readStored(key))]);
  const found = [...new Map([...stored, ...unstored])].filter(([, each]) => isCorrection(each));
  all = new Map(found.sort(([, one], [, other]) => (one.changed ?? 0) - (other.changed ?? 0)));
  corrections = [...all.values()].filter((each) => each.category !== null);
}

// Gives each correction of the list of an earlier version a key of its own.
function convertList() {
  const found = parsed(readStored(LIST));
  if (!Array.isArray(found)) return;
  found.filter(isCorrection).forEach((each, place) => {
    if (readStored(keyOf(each)) === null) unstored.set(keyOf(each), { ...each, changed: place });
  });
  storeChanges();
  if (!unstored.size) store(LIST, null);
}

function storeChanges() {
  for (const [key, each] of unstored) {
    if (store(key, each && JSON.stringify(each))) unstored.delete(key);
  }
}

// Changes several corrections; a correction of null removes a key.
function change(changes) {
  for (const [key, each] of changes) unstored.set(key, each);
  storeChanges();
  showStored();
}

// Returns a correction with another category; null = removed.
function withCategory(each, category) {
  if (category === null && !isText(each?.sent)) return null;
  // The order of corrections must not depend on a clock that is too coarse.
  const latest = [...all.values()].at(-1)?.changed ?? 0;
  return { ...each, category, changed: Math.max(Date.now(), latest + 1) };
}

// Stores a correction of a product, which may have further columns.
export function correct(product, category) {
  const corrected = trimmed(product);
  const key = keyOf(product);
  const before = all.get(key);
  if (before?.category === category) return;
  replaced.set(key, before?.category ?? null);
  removed = [];
  change([[key, withCategory({ ...before, ...corrected }, category)]]);
  announce(text().saved(corrected.title, pathText(category)));
  send();
}

// Returns the category that the user has chosen for a product, or undefined.
export function correctedCategory(product) {
  return all.get(keyOf(product))?.category ?? undefined;
}

// Takes back the last correction of a product: it gets its correction from before, if it had one.
export function withdraw(product) {
  const key = keyOf(product);
  if (!all.has(key)) return;
  change([[key, withCategory(all.get(key), replaced.get(key) ?? null)]]);
  replaced.delete(key);
  announce(text().undone(product.title.trim()));
  send();
}

// Removes corrections, and offers to restore them. Corrections that another tab has changed meanwhile stay.
export function removeCorrections(unwanted) {
  readCorrections();
  removed = unwanted.filter((each) => all.get(keyOf(each))?.category === each.category);
  change(removed.map((each) => [keyOf(each), withCategory(all.get(keyOf(each)), null)]));
  announce(text().removed(removed.length));
  byId("removed").querySelector("button")?.focus();
  send();
}

function restore() {
  const open = removed.filter((each) => (all.get(keyOf(each))?.category ?? null) === null);
  const restored = open.map((each) => [keyOf(each), { ...each, sent: all.get(keyOf(each))?.sent }]);
  removed = [];
  change(restored);
  byId("corrections-heading").focus();
  send();
}

// Sends the changes that the service has not collected, one after another. Only one tab sends at a time, if the browser
// has locks, which it has only for https and for this machine.
export function send() {
  sending = sending.then(() => navigator.locks?.request(PREFIX, sendChanges) ?? sendChanges());
}

async function sendChanges() {
  if (!summary?.collects_corrections) return;
  let failure = "";
  readCorrections(); // another tab may have sent some of them
  for (const key of [...all.keys()]) {
    const each = all.get(key); // undefined = removed meanwhile
    if (!each || each.category === (each.sent ?? null)) continue;
    try {
      await sendCorrection({ ...each, category: each.category ?? each.sent }, each.category === null);
    } catch (error) {
      failure = error.message;
      if (![413, 422].includes(error.status)) break; // the others would fail too
      // A new model may have other columns. A removal that it refuses cannot be shown or changed, so it is given up.
      if (each.category !== null) continue;
    }
    // The user may have changed it meanwhile, also in another tab, or removed it before the service had answered.
    readCorrections();
    const now = all.get(key) ?? { ...each, category: null };
    change([[key, now.category === null && each.category === null ? null : { ...now, sent: each.category }]]);
  }
  showFailure(failure, "unsent");
  byId("send").hidden = !failure;
}

// Reads the corrections that this and other tabs have stored, and shows them.
export function showStored() {
  readCorrections();
  showCorrections();
  dispatchEvent(new Event("corrections"));
}

function listed(each) {
  const node = element("li");
  const words = element("span", "", each.title);
  const more = Object.values(each.columns ?? {}).join(" · ");
  if (more) words.append(element("span", "more quiet", more));
  const name = categoryName(each.category);
  name.className = "corrected";
  words.append(name);
  node.append(words, button(text().remove, text().removeOne(each.title), () => removeCorrections([each])));
  return node;
}

export function showCorrections() {
  const count = corrections.length;
  byId("count").textContent = count;
  byId("list").hidden = !count && !removed.length && !unstored.size;
  byId("download").disabled = byId("clear").disabled = !count;
  showFailure(unstored.size ? text().full : "", "unstored");
  const collects = summary?.collects_corrections === true;
  const waiting = [...all.values()].filter((each) => each.category !== (each.sent ?? null)).length;
  byId("kept").hidden = collects;
  byId("collected").textContent = collects ? text().collected(count, waiting) : "";
  const isUndoable = removed.length > 0;
  byId("removed").replaceChildren(
    ...(isUndoable ? [text().removed(removed.length), button(text().undo, text().undoRemoved, restore)] : []),
  );
  const last = corrections.slice(isListedWhole ? 0 : -MAX_LISTED).reverse();
  byId("corrections").replaceChildren(...last.map(listed));
  byId("list-all").hidden = last.length === count;
  byId("list-all").textContent = text().listAll(count);
}

function csv() {
  const stored = corrections.flatMap((each) => Object.keys(each.columns ?? {}));
  const fixed = ["title", "category"];
  // A column that has one of these names itself is left out.
  const names = [...new Set([...columns, ...stored])].filter((name) => !fixed.includes(name));
  const rows = [
    [...fixed, ...names],
    ...corrections.map((each) => [each.title, each.category, ...names.map((name) => each.columns?.[name] ?? "")]),
  ];
  return formatCsv(rows);
}

onClick("download", () => {
  showStored();
  saveFile("corrections.csv", csv());
});
onClick("clear", () => {
  if (confirm(text().clearAll(corrections.length))) removeCorrections(corrections);
});
onClick("list-all", () => {
  isListedWhole = true;
  showCorrections();
  byId("corrections-heading").focus();
});
onClick("send", send);
addEventListener("online", send);
addEventListener("pagehide", storeChanges);
onStored((key) => key.startsWith(PREFIX), showStored);
convertList();
readCorrections();
