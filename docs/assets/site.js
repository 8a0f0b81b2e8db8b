/* Tables. Names stay in one piece where the first column holds a name alone; long code elsewhere may go on in a new line
   after a slash, a dot or an underscore. Options are never broken. On narrow screens rows are shown as cards (site.css): each
   cell says its column. */
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".md-typeset table:not([class])")) {
    const heads = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
    if (!heads.some(Boolean)) table.classList.add("plain");
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.cells].forEach((cell, number) => cell.setAttribute("data-column", heads[number] ?? ""));
      if (/^[\d.]+[⁰¹²³⁴-⁹]*$/.test(row.cells[0]?.textContent.trim() ?? "")) row.cells[0].classList.add("figure"); // says its column, too
      const name = row.cells[0]?.querySelector("code");
      if (name && row.cells[0].textContent.replace(/[·\s]/g, "") === name.textContent.replace(/\s/g, "")) {
        row.cells[0].classList.add("name");
        const [group, ...rest] = name.textContent.split(/(?<=__)/); // a setting's group may stand above its name
        if (rest.length) name.replaceChildren(group, document.createElement("wbr"), ...rest);
      }
    }
  }
  for (const code of document.querySelectorAll(".md-typeset :not(pre) > code")) {
    if (code.childElementCount) continue;
    const inCell = code.closest("td:not(.name)") !== null;
    const parts = code.textContent.split(/(?<=^|[\s[|(])(--?[A-Za-z][\w-]*)/); // every second one is an option
    code.replaceChildren(...parts.flatMap((part, number) => (number % 2 ? [inOnePiece(part)] : inCell ? breakable(part) : [part])));
  }
});

function inOnePiece(text) {
  const span = document.createElement("span");
  span.className = "option";
  span.textContent = text;
  return span;
}

function breakable(text) {
  const parts = text.split(/(?<=[/_.:=,-])(?=[^/_.:=,-])/);
  return parts.flatMap((part, number) => (number ? [document.createElement("wbr"), part] : [part]));
}
