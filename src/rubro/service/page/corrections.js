// Corrections of single titles, which the browser stores and all open tabs share.

import { announce, button, byId, element, readStored, saveFile, showFailure, store } from "./dom.js";
import { formatCsv } from "./csv.js";
import { text } from "./language.js";
import { categoryName, columns, paths, pathText } from "./model.js";

// Browsers need some time to show the storage of one tab to another tab.
const STORAGE_MILLISECONDS = 100;
const CORRECTIONS = "rubro.corrections";

let corrections = readCorrections(); // the stored corrections with the unstored changes of this tab
let known = { of: null, categories: new Map() }; // the category of each corrected product, in these corrections
let unstored = []; // functions that change a list of corrections

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

export function storeCorrections() {
  corrections = currentCorrections();
  if (unstored.length && store(CORRECTIONS, JSON.stringify(corrections))) unstored = [];
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

export function showStored() {
  corrections = currentCorrections();
  showCorrections();
}

// Identifies a product; a product without columns is its title.
function productKey({ title, columns }) {
  return JSON.stringify([title, Object.entries(columns ?? {}).sort()]);
}

// Returns the category that the user has chosen for a product, or undefined.
export function correctedCategory(product) {
  if (known.of !== corrections) {
    known = { of: corrections, categories: new Map(corrections.map((each) => [productKey(each), each.category])) };
  }
  return known.categories.get(productKey(product));
}

// Removes the correction of a product.
export async function withdraw(product) {
  const key = productKey(product);
  await remove(corrections.filter((each) => productKey(each) === key));
}

export async function correct(shown, category) {
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

export function showCorrections() {
  dispatchEvent(new Event("corrections")); // other views show them too
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
  return formatCsv(rows);
}

function download() {
  showStored();
  saveFile("corrections.csv", csv());
}

byId("download").addEventListener("click", download);
byId("clear").addEventListener("click", async () => {
  await remove(corrections);
  byId("title").focus();
});
addEventListener("pagehide", storeCorrections); // without waiting for a lock
addEventListener("storage", ({ key }) => {
  if (key === null || key === CORRECTIONS) showStored(); // another tab has changed them
});
addEventListener("pageshow", showStored); // the browser may show the page as it was
