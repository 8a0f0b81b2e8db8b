/* On narrow screens a table's rows are shown as cards (site.css); each cell then says which column it is of. */
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".md-typeset table:not([class])")) {
    const heads = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
    if (!heads.some(Boolean)) table.classList.add("plain");
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.cells].forEach((cell, number) => cell.setAttribute("data-column", heads[number] ?? ""));
    }
  }
});
