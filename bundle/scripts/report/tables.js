// Copyright 2026 The DeepRS Authors
// Licensed under the Apache License, Version 2.0 (the "License");
// you may not use this file except in compliance with the License.
// You may obtain a copy of the License at
//     http://www.apache.org/licenses/LICENSE-2.0
// Unless required by applicable law or agreed to in writing, software
// distributed under the License is distributed on an "AS IS" BASIS,
// WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
// See the License for the specific language governing permissions and
// limitations under the License.
"use strict";

// Makes the tables of a report sortable: a click on a heading sorts by its column, a second click the other way round.

// What a cell is sorted by: its number in ink, without the spread or the value before; or else its words.
function sortKey(cell) {
  const copy = cell.cloneNode(true);
  copy.querySelectorAll(".spread").forEach((part) => part.remove());
  const words = copy.textContent.trim();
  return { words, number: Number(words.replace("−", "-") || NaN) };
}

function sortBy(table, column, descending) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => ({ row, key: sortKey(row.cells[column]) }));
  const isNumeric = rows.some(({ key }) => !isNaN(key.number));
  const direction = descending ? -1 : 1;
  rows.sort((a, b) => {
    if (!isNumeric) return direction * a.key.words.localeCompare(b.key.words, undefined, { numeric: true });
    if (isNaN(a.key.number) || isNaN(b.key.number)) return isNaN(a.key.number) - isNaN(b.key.number); // dashes go last
    return direction * (a.key.number - b.key.number);
  });
  body.append(...rows.map(({ row }) => row));
}

for (const table of document.querySelectorAll("table")) {
  const headings = Array.from(table.tHead ? table.tHead.rows[0].cells : []);
  headings.forEach((heading, column) => {
    if (!heading.textContent) return;
    const button = document.createElement("button");
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const descending = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortBy(table, column, descending);
    });
  });
}
