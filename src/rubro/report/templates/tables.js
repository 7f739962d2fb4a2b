"use strict";
// A cell of a category also contains the mistakes of the category.
const textOf = (cell) => (cell.querySelector("summary") ?? cell).textContent.trim();
const numberOf = (cell) => parseFloat(cell.textContent.replace(/[,< %]/g, ""));

function sort(table, column, header) {
  const isNumber = header.classList.contains("number");
  const isAscending = header.ariaSort ? header.ariaSort !== "ascending" : !isNumber;
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  header.ariaSort = isAscending ? "ascending" : "descending";
  const sign = isAscending ? 1 : -1;
  const compare = (one, other) => {
    if (!isNumber) return sign * textOf(one).localeCompare(textOf(other));
    const [a, b] = [numberOf(one), numberOf(other)];
    return isNaN(a) || isNaN(b) ? isNaN(a) - isNaN(b) : sign * (a - b);
  };
  const rows = [...table.tBodies[0].rows];
  table.tBodies[0].append(...rows.sort((a, b) => compare(a.cells[column], b.cells[column])));
}

for (const table of document.querySelectorAll("table:not(#confusions-table)")) {
  for (const [column, header] of [...table.tHead.rows[0].cells].entries()) {
    const button = document.createElement("button");
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(table, column, header));
    header.append(button);
  }
}

for (const field of document.querySelectorAll("input[type=search]")) {
  const table = document.getElementById(field.getAttribute("aria-controls"));
  const status = document.getElementById(field.getAttribute("aria-describedby"));
  const rows = [...table.tBodies[0].rows];
  const search = () => {
    const wanted = field.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !textOf(row.cells[0]).toLowerCase().includes(wanted);
    const shown = rows.filter((row) => !row.hidden).length;
    status.textContent = `${shown} of ${rows.length} categories`;
  };
  field.addEventListener("input", search);
  field.closest("p").hidden = false;
  search();
}
