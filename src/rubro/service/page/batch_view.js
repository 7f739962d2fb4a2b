// The view of many titles: a table of their answers. Only the rows in sight are in the document.

import {
  announce,
  button,
  byId,
  element,
  onClick,
  onFile,
  readStored,
  saveFile,
  session,
  showFailure,
  showItems,
  store,
} from "./dom.js";
import { Batch, linesOf, readRows } from "./batch.js";
import { correct, correctedCategory, withdraw } from "./corrections.js";
import { CsvError } from "./csv.js";
import { count, percent, text } from "./language.js";
import {
  ARROW,
  askService,
  categories,
  categoryName,
  knownCategory,
  listCategories,
  pathText,
  readModel,
  rejection,
  summary,
  TOP,
} from "./model.js";
import { readText } from "./queue.js";
import { openFile } from "./queue_view.js";

const OPEN = "rubro.batch"; // the open rows, so that a reload answers them again
const PASTED = "titles.txt";
// Columns of the files that the queue shows better.
const QUEUE_COLUMNS = /(^|[,;\t|"])(suggested_category|suggestion_1)(["\r\n,;\t|]|$)/;
const SPARE_ROWS = 4; // rows above and below those in sight
const EXAMPLE_CHARACTERS = 40;
const GUESS_ROWS = 100;
const ORDER_MILLISECONDS = 100; // after scrolling

const view = byId("batch");
const scroller = byId("batch-scroller");
const body = byId("batch-rows");
const dialog = byId("batch-change");

let batch = null;
let unread = null; // the name and the rows of a table whose title column the user has to choose
let running = null; // controller of the requests in progress
let message = ""; // why the last request has failed
let sorting = "row"; // "row", "up" or "down"
let filter = "all";
let order = []; // the rows of the batch that are shown, in their order
let rowPixels = 0;
let drawing = 0;
let ordering = 0;
let changed = null; // the row in the dialog
let proposed = ""; // new category that the user has entered once
const lines = new Map(); // elements of the rows in the document, by the row of the batch

// Opening

function showCsvError(name, error) {
  if (!(error instanceof CsvError)) throw error;
  const found = text().csv[error.kind](...error.values);
  showFailure(name === PASTED ? found : `${name}: ${found}`, "batch-failure");
}

async function open(name, content) {
  if (summary === null) await readModel().catch(() => {}); // the columns that the model reads; ask() reports a failure
  try {
    const found = readRows(name, content);
    stop();
    batch = null;
    showFailure("", "batch-failure");
    if (found.title < 0) choose(name, found);
    else start(name, found);
  } catch (error) {
    showCsvError(name, error);
  }
}

async function openDropped(file) {
  const content = await readText(file).catch((error) => showCsvError(file.name, error));
  if (content === undefined) return;
  const [first] = linesOf(content);
  if (/\.csv$/i.test(file.name) && QUEUE_COLUMNS.test(first)) {
    location.hash = "queue";
    openFile(file);
    return;
  }
  open(file.name, content);
}

// Asks which column contains the titles.
function choose(name, found) {
  unread = { name, ...found };
  byId("batch-header").checked = found.isHeader;
  showOptions();
  byId("batch-column").value = wordiest(found.rows);
  showBatch();
  byId("batch-column").focus();
}

// Returns the place of the column with the most words in the first rows, which is probably the title column.
function wordiest(rows) {
  const words = rows[0].map((_, place) => {
    const texts = rows.slice(0, GUESS_ROWS).map((row) => row[place] ?? "");
    return texts.join(" ").match(/\p{L}+/gu)?.length ?? 0;
  });
  return words.indexOf(Math.max(...words));
}

function showOptions() {
  const isHeader = byId("batch-header").checked;
  const { value } = byId("batch-column");
  const example = unread.rows[isHeader ? 1 : 0] ?? [];
  byId("batch-column").replaceChildren(
    ...unread.rows[0].map((name, place) => {
      const label = isHeader && name ? name : text().batchColumnNumber(place + 1);
      const option = element("option", "", text().batchColumnOption(label, example[place]?.slice(0, EXAMPLE_CHARACTERS)));
      option.value = place;
      return option;
    }),
  );
  byId("batch-column").value = value || 0;
}

function start(name, found) {
  unread = null;
  // If the rows are too many to be kept, the user opens them again after a reload.
  if (!store(OPEN, JSON.stringify([name, found]), session)) store(OPEN, null, session);
  batch = new Batch(name, found);
  byId("batch-text").value = "";
  sorting = "row";
  filter = "all";
  scroller.scrollTop = 0;
  showBatch();
  if (!view.hidden) focusBatch();
  ask();
}

// Answers the rows again that were open before a reload.
export function reopenBatch() {
  const kept = readStored(OPEN, session);
  if (kept && batch === null && unread === null) start(...JSON.parse(kept));
}

function stop() {
  running?.abort();
  running = null;
  message = "";
}

function close() {
  stop();
  batch = unread = null;
  store(OPEN, null, session);
  showBatch();
  byId("batch-text").focus();
}

async function ask() {
  const asked = batch;
  const control = (running = new AbortController());
  message = "";
  showBatch();
  let failure = "";
  try {
    await asked.ask(() => asked === batch && arrange(), control.signal);
  } catch (error) {
    if (!control.signal.aborted) failure = error.message;
  }
  if (control !== running) return; // another file is open
  running = null;
  message = failure;
  showBatch();
  announce(message || byId("batch-progress").textContent);
}

// The table

// Sorts and filters the rows.
function arrange() {
  const all = batch.rows.map((_, row) => row);
  const test = { below: (row) => batch.isBelow(row), errors: (row) => batch.hasError(row) }[filter];
  order = test ? all.filter(test) : all;
  const direction = { up: 1, down: -1 }[sorting];
  if (direction) {
    const shares = all.map((row) => batch.confidence(row));
    order.sort((one, other) => direction * (shares[one] - shares[other]) || one - other);
  }
  showCounts();
  draw(true);
}

function showCounts() {
  const { all, answered, below, errors } = batch.counts();
  const isDone = answered + errors === all;
  const progress = isDone
    ? text().batchDone(count(answered), count(below))
    : (running ? text().answering : text().batchStopped)(count(answered), count(all));
  byId("batch-progress").textContent = [progress, errors ? text().batchErrors(count(errors)) : ""].filter(Boolean).join("; ");
  byId("batch-bar").hidden = isDone;
  byId("batch-bar").max = all;
  byId("batch-bar").value = answered + errors;
  byId("batch-all").textContent = text().filterAll(count(all));
  byId("batch-below").textContent = text().filterBelow(count(below));
  byId("batch-errors").textContent = text().filterErrors(count(errors));
  byId("batch-cancel").hidden = running === null;
  byId("batch-retry").hidden = running !== null || isDone;
  byId("batch-retry").textContent = message ? text().retry : text().goOn;
  showFailure(message, "batch-failure");
}

// Shows the rows in sight. While the user scrolls, the elements of rows that are out of sight are used for new rows in
// their place in the document, because browsers need longer to move them.
function draw(isStale = false) {
  if (batch === null || view.hidden) return;
  byId("batch-none").hidden = order.length > 0;
  scroller.hidden = !order.length;
  if (!order.length) return;
  if (isStale) measure();
  const top = scroller.scrollTop / rowPixels;
  const first = Math.max(0, Math.floor(top) - SPARE_ROWS);
  const wanted = order.slice(first, Math.ceil(top + scroller.clientHeight / rowPixels) + SPARE_ROWS);
  const kept = new Set(wanted);
  const free = [];
  for (const [row, line] of lines) {
    if (kept.has(row)) continue;
    if (line.node.contains(document.activeElement)) scroller.focus({ preventScroll: true });
    lines.delete(row);
    free.push(line);
  }
  wanted.forEach((row, place) => {
    const found = lines.get(row);
    const line = found ?? free.pop() ?? newLine();
    lines.set(row, line);
    if (!found || isStale) fill(line, row, first + place);
    if (!line.node.parentElement) body.append(line.node);
  });
  for (const { node } of free) node.remove();
  clearTimeout(ordering);
  if (isStale) orderNodes();
  else ordering = setTimeout(orderNodes, ORDER_MILLISECONDS);
}

// Moves the elements to the order of the rows, in which the keyboard and screen readers reach them. The element with
// the focus stays, because moving it would remove the focus.
function orderNodes() {
  const sorted = [...lines.values()].sort((one, other) => one.place - other.place).map(({ node }) => node);
  if (sorted.every((node, place) => node === body.children[place])) return;
  const held = sorted.findIndex((node) => node.contains(document.activeElement));
  sorted.forEach((node, place) => {
    if (place < held) sorted[held].before(node);
    else if (place > held) body.append(node);
  });
}

// All rows have the same height, which depends on the width of the window and on the size of the font.
function measure() {
  if (!body.firstChild) body.append(newLine().node);
  rowPixels = body.firstChild.offsetHeight;
  if (!lines.size) body.replaceChildren();
  body.style.height = `${order.length * rowPixels}px`;
  byId("batch-table").setAttribute("aria-rowcount", order.length + 1);
}

// Returns the elements of a row of the table, which show one row of the batch after another.
function newLine() {
  const node = element("tr");
  node.setAttribute("role", "row");
  const line = { node, row: -1, place: -1 };
  for (const name of ["number", "title", "found", "share", "actions"]) {
    line[name] = element("td", name);
    line[name].setAttribute("role", "cell");
    node.append(line[name]);
  }
  line.words = element("span");
  line.more = element("span", "note quiet");
  line.title.append(line.words, line.more);
  line.right = button("", "", () => toggle(line.row));
  line.change = button("", "", () => openChange(line.row));
  for (const control of [line.right, line.change]) control.append(element("span", "icon"), element("span"));
  line.actions.append(line.right, line.change);
  return line;
}

function fill(line, row, place) {
  const answer = batch.answers[row];
  const product = batch.product(row);
  const saved = correctedCategory(product);
  const [best] = answer?.top ?? [];
  Object.assign(line, { row, place });
  line.node.style.transform = `translateY(${place * rowPixels}px)`;
  line.node.setAttribute("aria-rowindex", place + 2);
  line.node.classList.toggle("marked", saved !== undefined);
  setText(line.number, count(row + 1));
  setText(line.words, product.title);
  line.words.title = product.title; // shown under the pointer, because the row may cut it off
  setText(line.more, Object.values(product.columns).join(" · "));
  setText(line.share, best ? percent(best.confidence) : "");
  line.found.replaceChildren(...foundParts(row, answer, best, saved));
  line.right.hidden = best === undefined && saved === undefined;
  line.change.hidden = best === undefined;
  const act = saved === undefined ? text().right : text().undo;
  setLabel(line.right, saved === undefined ? "✓" : "↶", act, `${product.title}, ${pathText(saved ?? best?.category ?? "")}`);
  setLabel(line.change, "✎", text().change, product.title);
}

// Browsers lay out an element again whenever its text is set.
function setText(node, content) {
  if (!node.firstChild) node.append("");
  if (node.firstChild.data !== content) node.firstChild.data = content;
}

function setLabel(control, icon, word, object) {
  setText(control.firstChild, icon);
  setText(control.lastChild, word);
  control.setAttribute("aria-label", `${word}: ${object}`);
}

function foundParts(row, answer, best, saved) {
  const note = (content, className = "quiet") => element("span", `note ${className}`, content);
  if (saved !== undefined) {
    const isSame = !best || best.category === saved;
    return [categoryName(saved), note(`✓ ${isSame ? text().isSaved : text().rowSavedInstead(pathText(best.category))}`)];
  }
  if (answer === null) return [note("…")];
  if (answer.error) return [note(batch.error(row), "alarm")];
  if (!batch.isBelow(row)) return [categoryName(best.category)];
  return [categoryName(best.category), note(belowText(answer))];
}

function belowText(answer) {
  return rejection(answer) || text().sure(answer.path.join(ARROW), percent(answer.confidence));
}

export function showBatch() {
  byId("batch-open").hidden = batch !== null || unread !== null;
  byId("batch-choose").hidden = unread === null;
  byId("batch-work").hidden = batch === null;
  document.body.classList.toggle("wide", batch !== null && !view.hidden);
  if (unread !== null) showOptions();
  if (batch === null) return;
  byId("batch-name").textContent = batch.name === PASTED ? "" : batch.name;
  const read = batch.columns.map(([name]) => name);
  byId("batch-read").textContent = read.length ? text().batchRead(read.join(", ")) : "";
  for (const each of view.querySelectorAll("[name=batch-filter]")) each.checked = each.value === filter;
  const sorted = { up: "ascending", down: "descending" }[sorting];
  byId("batch-by-row").parentElement.ariaSort = sorted ? "none" : "ascending";
  byId("batch-by-share").parentElement.ariaSort = sorted ?? "none";
  arrange();
}

export function focusBatch() {
  if (batch === null) byId(unread ? "batch-column" : "batch-text").focus();
  else view.focus({ preventScroll: true });
}

function sort(chosen) {
  sorting = chosen;
  scroller.scrollTop = 0;
  showBatch();
  announce({ row: text().sortedByRow, up: text().sortedUp, down: text().sortedDown }[chosen]);
}

// Corrections

function toggle(row) {
  const product = batch.product(row);
  if (correctedCategory(product) !== undefined) withdraw(product);
  else correct(product, batch.answers[row].top[0].category);
}

// Shows the five most probable categories of a row, and a field for another one.
async function openChange(row) {
  changed = batch.product(row);
  proposed = byId("change-category").value = "";
  showFailure("", "change-failure");
  listCategories("change-categories", categories);
  byId("change-title").textContent = changed.title;
  byId("change-choices").replaceChildren();
  dialog.showModal();
  const asked = changed;
  try {
    const { answer } = await askService("predict", asked, { top: TOP });
    if (asked === changed) showChoices(answer.top);
  } catch (error) {
    if (asked === changed) showFailure(error.message, "change-failure");
  }
}

function showChoices(top) {
  const choices = top.map(({ category, confidence }) => {
    const choice = button("", `${pathText(category)}, ${percent(confidence)}`, () => saveChange(category));
    choice.append(categoryName(category), element("span", "share quiet", percent(confidence)));
    return choice;
  });
  showItems("change-choices", choices);
  if (document.activeElement === byId("change-category") && !byId("change-category").value) {
    byId("change-choices").querySelector("button")?.focus();
  }
}

function saveChange(category) {
  correct(changed, category);
  dialog.close();
}

byId("change-other").addEventListener("submit", (event) => {
  event.preventDefault();
  const entered = byId("change-category").value.trim();
  if (!entered) return;
  const known = knownCategory(entered);
  if (known === null && proposed !== entered) {
    proposed = entered;
    showFailure(text().newCategory(entered), "change-failure");
    return;
  }
  saveChange(known ?? entered);
});
onClick("change-close", () => dialog.close());

// Events

// Moves the focus between rows with the arrow keys.
body.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  const line = [...lines.values()].find(({ node }) => node.contains(event.target));
  const place = line.place + step;
  if (place < 0 || place >= order.length) return;
  const top = place * rowPixels;
  const bottom = top + rowPixels + body.offsetTop - scroller.clientHeight; // the head of the table covers some pixels
  scroller.scrollTop = Math.min(top, Math.max(bottom, scroller.scrollTop));
  draw();
  orderNodes();
  const next = lines.get(order[place]);
  const control = event.target === line.change ? next.change : next.right;
  (control.hidden ? scroller : control).focus({ preventScroll: true });
});
scroller.addEventListener("scroll", () => draw(), { passive: true });
new ResizeObserver(() => redrawSoon()).observe(scroller);

// Shows all rows in sight again, because their corrections or their height has changed.
function redrawSoon() {
  drawing ||= requestAnimationFrame(() => {
    drawing = 0;
    draw(true);
  });
}

addEventListener("corrections", redrawSoon);
byId("batch-open").addEventListener("submit", (event) => {
  event.preventDefault();
  open(PASTED, byId("batch-text").value);
});
onFile("batch-file", openDropped);
byId("batch-header").addEventListener("change", showOptions);
byId("batch-choose").addEventListener("submit", (event) => {
  event.preventDefault();
  const { name, rows } = unread;
  const isHeader = byId("batch-header").checked;
  if (isHeader && rows.length === 1) showCsvError(name, new CsvError("noRows", rows[0]));
  else start(name, { rows, title: Number(byId("batch-column").value), isHeader });
});
onClick("batch-cancel", () => running?.abort());
onClick("batch-retry", ask);
onClick("batch-download", () => saveFile(batch.fileName(), batch.csv(correctedCategory)));
for (const each of view.querySelectorAll(".batch-close")) each.addEventListener("click", close);
for (const each of view.querySelectorAll("[name=batch-filter]")) {
  each.addEventListener("change", () => {
    filter = each.value;
    scroller.scrollTop = 0;
    arrange();
  });
}
onClick("batch-by-row", () => sort("row"));
onClick("batch-by-share", () => sort(sorting === "up" ? "down" : "up"));

// Several lines are answered at once; browsers need seconds to show thousands of lines in a field.
function openLines(event) {
  const content = event.clipboardData.getData("text/plain");
  if (linesOf(content.trimStart()).length < 2) return;
  event.preventDefault();
  location.hash = "batch";
  open(PASTED, content);
}

byId("title").addEventListener("paste", openLines);
byId("batch-text").addEventListener("paste", (event) => {
  if (!event.target.value.trim()) openLines(event);
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  const [file] = event.dataTransfer.files;
  if (!file) return;
  if (!byId("queue").hidden) {
    openFile(file);
    return;
  }
  location.hash = "batch";
  openDropped(file);
});
