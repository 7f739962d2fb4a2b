// Many titles from a file or from pasted lines, their answers, and the csv file of both.

import { CsvError, formatCsv, parseCsv } from "./csv.js";
import { TEXTS, text } from "./language.js";
import { columns, minConfidence, paths, requested, send, titleColumn } from "./model.js";

export const MAX_ROWS = 100000;
const MAX_CHARACTERS = 1000; // of a title; the field for a single title has the same limit
// Limits of the service. The first request is small, so that the first rows are answered at once.
const FIRST_TITLES = 100;
const MAX_TITLES = 1000;
const MAX_BYTES = 2 ** 20;
const MAX_BYTES_PER_CHARACTER = 3; // UTF-8 needs up to three bytes for a character of UTF-16
// If the service is busy, the page asks again this many times before the user has to.
const MAX_ATTEMPTS = 5;
const MAX_WAIT_SECONDS = 30;

// Returns the lines of a text without empty lines at its end.
export const linesOf = (content) => content.trimEnd().split(/\r\n|[\r\n]/);

// Returns the rows of a csv file or of a text with one title per line. `title` is the place of the title column; -1
// means that the user has to choose it. `isHeader` is whether the first row contains names of columns.
export function readRows(name, content) {
  const isTable = /\.(csv|tsv)$/i.test(name);
  const [first] = linesOf(content);
  const names = isTable ? [] : first.split(/[,;\t|]/).map((each) => each.trim().replaceAll('"', ""));
  const isNamed = names.length > 1 && titleNames().some((each) => names.includes(each));
  // A row of a spreadsheet is copied with tabs between its cells.
  if (!isTable && !isNamed && !first.includes("\t")) {
    const rows = linesOf(content).map((line) => [line]);
    if (!content.trim()) throw new CsvError("noTitles");
    return limited({ rows, title: 0, isHeader: false });
  }
  const rows = parseCsv(content);
  const found = titleNames().find((each) => rows[0].includes(each));
  const title = rows[0].indexOf(found) === rows[0].lastIndexOf(found) ? rows[0].indexOf(found) : -1;
  if (found && rows.length === 1) throw new CsvError("noRows", rows[0]);
  return limited({ rows, title, isHeader: isTable || found !== undefined });
}

const titleNames = () => [titleColumn, "title"];

function limited(found) {
  if (found.rows.length > MAX_ROWS) throw new CsvError("manyRows", MAX_ROWS);
  return found;
}

// Returns why a title is not sent to the service, as the name of a message in language.js.
function problemOf(title) {
  if (!title.trim()) return "emptyTitle";
  return title.length > MAX_CHARACTERS ? "longTitle" : null;
}

export class Batch {
  constructor(name, { rows, title, isHeader }) {
    this.name = name;
    this.title = title;
    this.isHeader = isHeader;
    this.header = isHeader ? rows[0] : ["title", ...rows[0].slice(1).map((_, place) => `column_${place + 2}`)];
    this.rows = isHeader ? rows.slice(1) : rows;
    this.columns = columns
      .map((column) => [column, isHeader ? this.header.indexOf(column) : -1])
      .filter(([, place]) => place >= 0 && place !== title);
    this.forget();
  }

  forget() {
    this.hash = null; // of the model that has given the answers
    this.answers = this.rows.map((row) => {
      const error = problemOf(row[this.title]);
      return error && { error, top: [] };
    }); // null = not yet answered
    this.next = 0; // all rows before it have an answer
  }

  // Returns a product as the model reads it.
  product(row) {
    const texts = this.columns.map(([column, place]) => [column, this.rows[row][place].trim()]);
    return {
      title: this.rows[row][this.title].trim(),
      columns: Object.fromEntries(texts.filter(([, value]) => value)),
    };
  }

  // Returns whether the service is not sure about a row's category.
  isBelow(row) {
    const answer = this.answers[row];
    if (!answer?.top.length) return false;
    return answer.category === null || (answer.path?.length ?? 0) < (answer.top[0].path?.length ?? 0);
  }

  hasError(row) {
    return Boolean(this.answers[row]?.error);
  }

  error(row, texts = text()) {
    const { error } = this.answers[row];
    return texts.badTitle[error] ?? error;
  }

  // Returns the sort key of a row; rows without an answer come first, so that they are seen.
  confidence(row) {
    return this.answers[row]?.top[0]?.confidence ?? -1;
  }

  counts() {
    const found = { all: this.rows.length, answered: 0, below: 0, errors: 0 };
    for (let row = 0; row < found.all; row++) {
      if (this.hasError(row)) found.errors += 1;
      else if (this.answers[row] !== null) found.answered += 1;
      if (this.isBelow(row)) found.below += 1;
    }
    return found;
  }

  // Asks the service about all rows without an answer, and calls a function after each of its answers. Answered rows
  // are kept if it fails or if the user cancels.
  async ask(answered, signal) {
    let size = FIRST_TITLES;
    let limit = MAX_TITLES;
    let attempts = 0;
    let isAgain = false;
    for (;;) {
      const asked = this.nextRows(size);
      if (!asked.length) return;
      try {
        const titles = asked.map((row) => requested(this.product(row)));
        const found = await send("predict", { titles, top: 1, min_confidence: minConfidence() }, { signal });
        if (this.hash !== null && this.hash !== found.model.hash && !isAgain) {
          this.forget(); // the service has replaced its model, so all rows are answered again, but only once
          isAgain = true;
          continue;
        }
        this.hash = found.model.hash;
        asked.forEach((row, place) => (this.answers[row] = found.answers[place]));
        this.next = asked.at(-1) + 1;
        size = Math.min(limit, size * 3);
        attempts = 0;
      } catch (error) {
        if (error.status === 413 && asked.length > 1) {
          size = limit = Math.ceil(asked.length / 2); // a proxy may have a lower limit
        } else if (error.status === 413) {
          this.answers[asked[0]] = { error: "largeRow", top: [] };
        } else if ([429, 503].includes(error.status) && ++attempts < MAX_ATTEMPTS) {
          await wait(Math.min(error.seconds, MAX_WAIT_SECONDS), signal);
        } else {
          throw error;
        }
      }
      answered();
    }
  }

  // Returns the next rows to send in one request.
  nextRows(size) {
    const found = [];
    let bytes = 0;
    for (let row = this.next; row < this.rows.length && found.length < size; row++) {
      if (this.answers[row] !== null) continue;
      bytes += MAX_BYTES_PER_CHARACTER * JSON.stringify(requested(this.product(row))).length + 1;
      if (found.length && bytes > 0.9 * MAX_BYTES) break;
      found.push(row);
    }
    return found;
  }

  // Returns the file with the columns that rubro predict --min-confidence adds, and with the corrected categories.
  // The argument is a function that returns the corrected category of a product, or undefined.
  csv(correctedCategory) {
    const corrected = this.rows.map((_, row) => correctedCategory(this.product(row)));
    const names = ["predicted_category", "confidence", ...(paths.size ? ["predicted_level"] : []), "best_guess", "error"];
    if (corrected.some((category) => category !== undefined)) names.push("corrected_category");
    let prefix = "";
    while (names.some((name) => this.header.includes(prefix + name))) prefix += "new_";
    const rows = this.rows.map((row, place) => {
      const values = { ...this.values(place), corrected_category: corrected[place] };
      return [...row, ...names.map((name) => String(values[name] ?? ""))];
    });
    return formatCsv([[...this.header, ...names.map((name) => prefix + name)], ...rows]);
  }

  values(row) {
    const answer = this.answers[row];
    if (answer === null) return { error: TEXTS.en.badTitle.notAnswered };
    if (answer.error) return { error: this.error(row, TEXTS.en) };
    return {
      predicted_category: answer.category,
      confidence: answer.confidence,
      predicted_level: answer.predicted_level || null,
      best_guess: answer.top[0].category,
    };
  }

  fileName() {
    return `${this.name.replace(/\.[^.]*$/, "")}-predictions.csv`;
  }
}

function wait(seconds, signal) {
  return new Promise((resume, stop) => {
    const timer = setTimeout(resume, 1000 * seconds);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      stop(signal.reason);
    });
  });
}
