// A file of titles to label (from rubro next) or of suspicious labels (from rubro audit), and the user's decisions.

import { CsvError, formatCsv, parseCsv } from "./csv.js";
import { fold, readStored, session, store, storedKeys } from "./dom.js";
import { categories, categoryColumns, columns, paths, titleColumn } from "./model.js";

// A decision is one of these, or CATEGORY and the name of a category.
export const SUGGESTED = "y"; // the suggested category is right
export const LABEL = "n"; // the label is right
export const SKIPPED = "s";
export const CATEGORY = "=";
const MAX_BYTES = 2 ** 26;
// The values that rubro reads in the column accept instead of the name of a category, without accents.
const YES = ["yes", "y", "true", "1", "x", "si", "verdadero"];
const NO = ["no", "n", "false", "0", "falso"];
const AUDIT = ["label", "suggested_category"];
const OTHER_AUDIT = ["file", "line", "confidence", "label_confidence", "words", "accept"];
const SUGGESTION = /^suggestion_\d$/;
const LEVEL_SEPARATOR = " > ";
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

// Returns the length of a text and a hash of 32 bits. crypto.subtle exists only with HTTPS and on localhost.
function digest(content) {
  let hash = 0;
  for (let place = 0; place < content.length; place++) hash = (Math.imul(31, hash) + content.charCodeAt(place)) | 0;
  return `${content.length}.${(hash >>> 0).toString(36)}`;
}

// Returns the decision that rubro reads in the column accept.
function acceptDecision(value) {
  const answer = fold(value);
  if (YES.includes(answer)) return SUGGESTED;
  return NO.includes(answer) ? LABEL : CATEGORY + value;
}

// Returns the places of the columns that have a role; -1 = there is none.
function rolesOf(header) {
  const place = (name) => header.indexOf(name);
  const places = (names) => names.map(place).filter((found) => found >= 0);
  const audit = places(AUDIT);
  const isAudit = audit.length === AUDIT.length || (audit.length > 0 && header.includes("accept"));
  const isReserved = isAudit && [...AUDIT, ...OTHER_AUDIT].includes(titleColumn);
  const auditPlace = (name) => (isAudit ? place(name) : -1);
  const categoryPlaces = places(categoryColumns);
  const roles = {
    isAudit,
    title: places(isReserved ? ["title"] : [titleColumn, "title"])[0] ?? -1,
    label: auditPlace("label"),
    suggested: auditPlace("suggested_category"),
    labelShare: auditPlace("label_confidence"),
    words: auditPlace("words"),
    share: place("confidence"),
    suggestions: header.flatMap((name, index) => (SUGGESTION.test(name) ? [index] : [])),
    // The columns that contain the decisions.
    targets: isAudit ? places(["accept"]) : categoryPlaces.length ? categoryPlaces : places(["category"]),
  };
  const missing = isAudit ? AUDIT.filter((name) => !header.includes(name)) : [];
  if (roles.title < 0) missing.unshift([...new Set([titleColumn, "title"])].join("/"));
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
    if (!this.roles.targets.length) {
      this.roles.targets = [this.header.push(this.roles.isAudit ? "accept" : "category") - 1];
      for (const row of this.rows) row.push("");
    }
    this.key = `${PREFIX}${digest(content)}.`;
    this.unstored = new Set(); // rows whose decisions cannot be stored
    this.decisions = new Map(); // the decisions of the rows that were made in the page
    this.readDecisions();
    this.undoable = JSON.parse(readStored(UNDO + this.key, session) ?? "[]"); // row, decision before and after
    this.isRevisiting = false; // whether skipped rows are shown again
    this.current = this.next(-1);
  }

  field(row, role) {
    return (this.rows[row][this.roles[role]] ?? "").trim();
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
    return this.roles.suggestions.map((place) => this.rows[row][place].trim()).filter(Boolean);
  }

  // Returns the names and texts of the columns without a role.
  further(row) {
    const used = Object.values(this.roles).flat();
    return this.header
      .map((name, place) => [name, this.rows[row][place], place])
      .filter(([, value, place]) => value.trim() && !used.includes(place));
  }

  // Returns the categories in the file and in the decisions that the model does not know.
  unknownCategories() {
    const { label, suggested, suggestions, isAudit } = this.roles;
    const places = isAudit ? [label, suggested] : suggestions;
    const names = this.rows.flatMap((row) => [...places.map((place) => row[place].trim()), this.filled(row)]);
    const chosen = [...this.decisions.values()].filter((each) => each.startsWith(CATEGORY));
    const found = new Set([...names, ...chosen.map((each) => each.slice(CATEGORY.length))]);
    for (const name of ["", ...categories]) found.delete(name);
    return [...found];
  }

  // Returns the category in the category columns of a labelling file.
  filled(row) {
    const names = this.roles.targets.map((place) => row[place].trim()).filter(Boolean);
    return this.roles.isAudit ? "" : names.join(LEVEL_SEPARATOR);
  }

  decision(row) {
    if (this.decisions.has(row)) return this.decisions.get(row);
    const { isAudit, targets } = this.roles;
    const value = isAudit ? this.rows[row][targets[0]].trim() : this.filled(this.rows[row]);
    if (!value) return undefined;
    return isAudit ? acceptDecision(value) : CATEGORY + value;
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

  // Returns the first open row after a row, or else the first row without a decision; null = all are decided.
  next(after) {
    const isOpen = (_, row) =>
      row > after && (this.decision(row) === undefined || (this.isRevisiting && this.decision(row) === SKIPPED));
    const isUndecided = (_, row) => this.decision(row) === undefined;
    const found = [isOpen, isUndecided].map((test) => this.rows.findIndex(test)).find((row) => row >= 0);
    return found ?? null;
  }

  decide(decision) {
    this.undoable.push([this.current, this.decisions.get(this.current) ?? null, decision]);
    this.save(this.current, decision);
    this.current = this.next(this.current);
  }

  // Takes the last decision of this tab back, unless another tab has changed it.
  undo() {
    this.readDecisions();
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

  // Returns whether a key of the storage belongs to the file.
  owns(key) {
    return key.startsWith(this.key);
  }

  // Returns the file with the decisions.
  csv() {
    const rows = this.rows.map((row, place) => {
      const decision = this.decisions.get(place);
      return decision === undefined || decision === SKIPPED ? row : this.decided(row, decision);
    });
    return formatCsv([this.header, ...rows]);
  }

  decided(row, decision) {
    const { isAudit, suggested, targets } = this.roles;
    const filled = [...row];
    const category = decision.slice(CATEGORY.length);
    if (isAudit) {
      // rubro would read a category that is called yes or no as an answer.
      const isAnswer = decision.startsWith(CATEGORY) && acceptDecision(category) !== decision;
      if (isAnswer) filled[suggested] = category;
      filled[targets[0]] = isAnswer || decision === SUGGESTED ? "yes" : decision === LABEL ? "no" : category;
    } else if (targets.length === 1) {
      filled[targets[0]] = category;
    } else {
      const names = paths.get(category) ?? category.split(LEVEL_SEPARATOR);
      targets.forEach((place, level) => (filled[place] = names[level] ?? ""));
    }
    return filled;
  }

  fileName() {
    return `corrections-${this.name.replace(/^(corrections-)+/, "").replace(/\.[^.]*$/, "")}.csv`;
  }
}
