// A file of titles to label (from rubro next) or of suspicious labels (from rubro audit), and the user's decisions.

import { CsvError, formatCsv, parseCsv } from "./csv.js";
import { readStored, session, store, storedKeys } from "./dom.js";
import { categories, categoryColumn, columns, titleColumn } from "./model.js";

// A decision is one of these, or CATEGORY and the name of a category.
export const SUGGESTED = "y"; // the suggested category is right
export const LABEL = "n"; // the label is right
export const SKIPPED = "s";
export const CATEGORY = "=";
const MAX_BYTES = 2 ** 26;
const MAX_UNDO = 1000;
// The values that rubro reads in the column accept instead of the name of a category.
const YES = ["yes", "y", "true", "1", "x", "si", "sí"];
const NO = ["no", "n", "false", "0"];
const AUDIT = ["label", "suggested_category"];
const NUMBERS = ["confidence", "label_confidence", "words", "accept"];
const SUGGESTION = /^suggestion_\d$/;
const PREFIX = "rubro.queue.";
const UNDO = "rubro.undo.";

// Returns the text of a file, which must be encoded as UTF-8.
export async function readText(file) {
  if (file.size > MAX_BYTES) throw new CsvError("largeFile", MAX_BYTES / 2 ** 20);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
  } catch (error) {
    throw error instanceof TypeError ? new CsvError("notUtf8") : new CsvError("unreadable");
  }
}

// Returns a hash of 53 bits (cyrb53 by bryc). crypto.subtle exists only with HTTPS and on localhost.
function digest(content) {
  let one = 0xdeadbeef;
  let two = 0x41c6ce57;
  for (let place = 0; place < content.length; place++) {
    const unit = content.charCodeAt(place);
    one = Math.imul(one ^ unit, 2654435761);
    two = Math.imul(two ^ unit, 1597334677);
  }
  one = Math.imul(one ^ (one >>> 16), 2246822507) ^ Math.imul(two ^ (two >>> 13), 3266489909);
  two = Math.imul(two ^ (two >>> 16), 2246822507) ^ Math.imul(one ^ (one >>> 13), 3266489909);
  return (4294967296 * (2097151 & two) + (one >>> 0)).toString(36);
}

// Returns the places of the columns that have a role; -1 = there is none.
function rolesOf(header) {
  const place = (...names) => names.map((name) => header.indexOf(name)).find((found) => found >= 0) ?? -1;
  const isAudit = AUDIT.some((name) => header.includes(name)) && header.includes("accept");
  const roles = {
    title: place(titleColumn, "title"),
    label: place("label"),
    suggested: place("suggested_category"),
    accept: place("accept"),
    labelShare: place("label_confidence"),
    share: place("confidence"),
    words: place("words"),
    suggestions: header.flatMap((name, index) => (SUGGESTION.test(name) ? [index] : [])),
    category: place(categoryColumn, "category"),
    isAudit: isAudit || AUDIT.every((name) => header.includes(name)),
  };
  const missing = roles.isAudit ? AUDIT.filter((name) => !header.includes(name)) : [];
  if (roles.title < 0) missing.unshift(titleColumn);
  if (missing.length) throw new CsvError("missingColumns", missing, header);
  return roles;
}

export class Queue {
  // Raises a CsvError if the content is not a file of titles.
  constructor(name, content) {
    this.name = name;
    [this.header, ...this.rows] = parseCsv(content);
    this.roles = rolesOf(this.header);
    if (!this.rows.length) throw new CsvError("noRows", this.header);
    const target = this.roles.isAudit ? "accept" : "category";
    if (this.roles[target] < 0) {
      this.roles[target] = this.header.push(target) - 1;
      for (const row of this.rows) row.push("");
    }
    this.target = this.roles[target]; // the column that contains the decisions
    this.key = `${PREFIX}${digest(content)}.`;
    this.unstored = new Set(); // rows whose decisions cannot be stored
    this.decisions = new Map(); // the decisions of the rows that were made in the page
    this.readDecisions();
    this.undoable = JSON.parse(readStored(UNDO + this.key, session) ?? "[]"); // row, decision before and after
    this.isRevisiting = false; // whether skipped rows are shown again
    this.current = this.next(-1);
  }

  field(row, role) {
    return this.rows[row][this.roles[role]] ?? "";
  }

  // Returns the product of a row as the model reads it.
  product(row) {
    const found = columns.map((name) => [name, this.rows[row][this.header.indexOf(name)]]);
    return {
      title: this.field(row, "title"),
      columns: Object.fromEntries(found.filter(([, value]) => value?.trim())),
    };
  }

  suggestions(row) {
    return this.roles.suggestions.map((place) => this.rows[row][place]).filter(Boolean);
  }

  // Returns the names and texts of the columns without a role.
  further(row) {
    const { title, label, suggested } = this.roles;
    const isShown = (name, place) =>
      ![title, label, suggested, this.target].includes(place) && !NUMBERS.includes(name) && !SUGGESTION.test(name);
    return this.header
      .map((name, place) => [name, this.rows[row][place], place])
      .filter(([name, value, place]) => isShown(name, place) && value.trim());
  }

  // Returns the categories in the file and in the decisions that the model does not know.
  unknownCategories() {
    const { label, suggested, category, suggestions, isAudit } = this.roles;
    const places = isAudit ? [label, suggested] : [category, ...suggestions];
    const names = this.rows.flatMap((row) => places.map((place) => row[place].trim()));
    const known = new Set(["", ...categories]);
    return [...new Set([...names, ...this.chosen()])].filter((name) => !known.has(name));
  }

  chosen() {
    return [...this.decisions.values()]
      .filter((each) => each.startsWith(CATEGORY))
      .map((each) => each.slice(CATEGORY.length));
  }

  decision(row) {
    if (this.decisions.has(row)) return this.decisions.get(row);
    const value = this.rows[row][this.target].trim();
    if (!value) return undefined;
    if (this.roles.isAudit && YES.includes(value.toLowerCase())) return SUGGESTED;
    if (this.roles.isAudit && NO.includes(value.toLowerCase())) return LABEL;
    return CATEGORY + value;
  }

  counts() {
    const found = { decided: 0, skipped: 0, all: this.rows.length };
    for (let row = 0; row < found.all; row++) {
      const decision = this.decision(row);
      if (decision === SKIPPED) found.skipped += 1;
      else if (decision !== undefined) found.decided += 1;
    }
    return found;
  }

  // Returns the next row without a decision, or null.
  next(after) {
    const isOpen = (_, row) => {
      const decision = this.decision(row);
      return decision === undefined || (this.isRevisiting && decision === SKIPPED);
    };
    const found = this.rows.findIndex((each, row) => row > after && isOpen(each, row));
    if (found >= 0) return found;
    this.isRevisiting = false;
    const first = this.rows.findIndex(isOpen);
    return first < 0 ? null : first;
  }

  decide(decision) {
    this.undoable.push([this.current, this.decisions.get(this.current) ?? null, decision]);
    this.undoable.splice(0, this.undoable.length - MAX_UNDO);
    this.save(this.current, decision);
    this.current = this.next(this.current);
  }

  // Takes the last decision of this tab back, unless another tab has changed it.
  undo() {
    while (this.undoable.length) {
      const [row, before, after] = this.undoable.pop();
      if (this.decisions.get(row) !== after) continue;
      this.save(row, before);
      this.isRevisiting = false;
      this.current = row;
      return;
    }
  }

  revisit() {
    this.isRevisiting = true;
    this.current = this.next(-1);
  }

  clear() {
    for (const key of storedKeys(this.key)) store(key, null);
    this.decisions.clear();
    this.unstored.clear();
    this.undoable = [];
    store(UNDO + this.key, null, session);
    this.current = this.next(-1);
  }

  // Each decision has a key of its own in the storage, so tabs cannot overwrite the decisions of each other.
  save(row, decision) {
    if (decision === null) this.decisions.delete(row);
    else this.decisions.set(row, decision);
    this.unstored.add(row);
    for (const each of this.unstored) {
      if (store(this.key + each, this.decisions.get(each))) this.unstored.delete(each);
    }
    store(UNDO + this.key, JSON.stringify(this.undoable), session);
  }

  // Reads the decisions that this and other tabs have stored.
  readDecisions() {
    const kept = [...this.unstored].map((row) => [row, this.decisions.get(row)]);
    const stored = storedKeys(this.key).map((key) => [Number(key.slice(this.key.length)), readStored(key)]);
    this.decisions = new Map([...stored, ...kept].filter(([row, decision]) => row < this.rows.length && decision));
  }

  // Reads the decision of a changed key of the storage (null = all may have changed), and returns whether there is one.
  readChange(key) {
    if (key !== null && !key.startsWith(this.key)) return false;
    this.readDecisions();
    return true;
  }

  // Returns the file with the decisions.
  csv() {
    const rows = this.rows.map((each, row) => {
      const decision = this.decisions.get(row);
      if (decision === undefined || decision === SKIPPED) return each;
      const filled = [...each];
      const category = decision.slice(CATEGORY.length);
      if (decision === SUGGESTED) filled[this.target] = "yes";
      else if (decision === LABEL) filled[this.target] = "no";
      else if (this.roles.isAudit && [...YES, ...NO].includes(category.toLowerCase())) {
        // A category with such a name would be read as yes or no.
        filled[this.roles.suggested] = category;
        filled[this.target] = "yes";
      } else filled[this.target] = category;
      return filled;
    });
    return formatCsv([this.header, ...rows]);
  }

  fileName() {
    return `corrections-${this.name.replace(/^(corrections-)+/, "").replace(/\.[^.]*$/, "")}.csv`;
  }
}
