// CSV files as defined by RFC 4180; semicolons, tabs and vertical bars are read too.

const HEADER_CHARACTERS = 65536;

export class CsvError extends Error {
  // The kind is the name of a message in language.js.
  constructor(kind, ...values) {
    super(kind);
    this.kind = kind;
    this.values = values;
  }
}

// Returns the rows of a file, each with as many fields as the first row, which contains the names of the columns.
export function parseCsv(content) {
  const separator = separatorOf(content);
  const end = new RegExp(`[${separator}\r\n]|$`, "g");
  const rows = [];
  let row = [];
  let position = 0;
  while (position < content.length) {
    let field;
    [field, position] = content[position] === '"' ? quoted(content, position) : plain(content, position, end);
    row.push(field);
    if (content[position] === separator) {
      position += 1;
      if (position < content.length) continue;
      row.push("");
    } else if (position < content.length && !"\r\n".includes(content[position])) {
      throw new CsvError("badQuote", lineAt(content, position));
    }
    if (content.startsWith("\r\n", position)) position += 1;
    position += 1;
    if (row.length > 1 || row[0].trim()) rows.push(row);
    row = [];
  }
  if (!rows.length) throw new CsvError("emptyFile");
  rows[0] = rows[0].map((name) => name.trim());
  const width = rows[0].length;
  rows.forEach((each, place) => {
    if (each.length > width) throw new CsvError("longRow", place + 1, each.length, width);
    while (each.length < width) each.push(""); // spreadsheets omit empty fields at the end
  });
  return rows;
}

function lineAt(content, position) {
  return content.slice(0, position).split(/\r\n|[\r\n]/).length;
}

// Detects the separator from the names of the columns.
function separatorOf(content) {
  const [header] = content.slice(0, HEADER_CHARACTERS).replaceAll(/"[^"]*"/g, "").split(/[\r\n]/, 1);
  const count = (separator) => header.split(separator).length;
  return [",", ";", "\t", "|"].reduce((best, each) => (count(each) > count(best) ? each : best));
}

function plain(content, start, end) {
  end.lastIndex = start;
  const { index } = end.exec(content);
  return [content.slice(start, index), index];
}

function quoted(content, start) {
  let end = content.indexOf('"', start + 1);
  while (content[end + 1] === '"' && end >= 0) end = content.indexOf('"', end + 2); // a doubled quote
  if (end < 0) throw new CsvError("openQuote", lineAt(content, start));
  return [content.slice(start + 1, end).replaceAll('""', '"'), end + 1];
}

export function formatCsv(rows) {
  const field = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  return rows.map((each) => `${each.map(field).join(",")}\r\n`).join("");
}
