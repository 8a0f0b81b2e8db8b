/* Tables. Names stay in one piece where the first column holds a short name alone; long code elsewhere may go on in a new
   line after a slash or a dot. Options and short code are never broken, ranges of figures neither. On narrow screens rows
   are shown as cards (site.css): each cell says its column. Blocks: commands go on in a new line instead of being cut;
   pictures of letters and Python keep their lines. */
const NAME_LETTERS = 34;
const SHORT_LETTERS = 24; // of code that is not broken on wide screens
const SHORT_IN_CELL = 17; // the same in a table, whose columns are narrow
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll(".md-typeset table:not([class])")) {
    const heads = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent.trim());
    if (!heads.some(Boolean)) table.classList.add("plain");
    for (const row of table.querySelectorAll("tbody tr")) {
      [...row.cells].forEach((cell, number) => {
        cell.setAttribute("data-column", heads[number] ?? "");
        if (/^[+−-]?[\d.]+ \([+−-]?[\d.]+(–| to )[+−-]?[\d.]+\)$/.test(cell.textContent.trim())) cell.classList.add("range");
      });
      if (/^[\d.]+[⁰¹²³⁴-⁹]*$/.test(row.cells[0]?.textContent.trim() ?? "")) row.cells[0].classList.add("figure"); // says its column, too
      const name = row.cells[0]?.querySelector("code");
      const alone = name && row.cells[0].textContent.replace(/[·\s]/g, "") === name.textContent.replace(/\s/g, "");
      if (alone && (name.textContent.length <= NAME_LETTERS || name.textContent.includes("__"))) {
        row.cells[0].classList.add("name");
        const [group, ...rest] = name.textContent.split(/(?<=__)/); // a setting's group may stand above its name
        if (rest.length) name.replaceChildren(group, document.createElement("wbr"), ...rest);
      }
    }
  }
  for (const code of document.querySelectorAll(".md-typeset :not(pre) > code")) {
    if (code.childElementCount) continue;
    if (code.textContent.length <= SHORT_LETTERS || !/[\s/]/.test(code.textContent.slice(0, 44))) code.classList.add("short");
    const inCell = code.closest("td:not(.name)") !== null;
    const mayBreak = inCell && (code.textContent.length > SHORT_IN_CELL || /\s/.test(code.textContent));
    const parts = code.textContent.split(/(?<=^|[\s[|(])(--?[A-Za-z][\w-]*|'[^'\s]{1,24}')/); // every second one is an option, or a short text in quotes
    code.replaceChildren(...parts.flatMap((part, number) => (number % 2 ? [inOnePiece(part)] : mayBreak ? breakable(part) : [part])));
    if (mayBreak) code.classList.remove("short");
  }
  for (const block of document.querySelectorAll(".md-typeset pre")) {
    const language = block.closest("[class*=language-]")?.className.match(/language-(\w+)/)?.[1] ?? "text";
    if (language === "python" || /[─│┌└►]/.test(block.textContent)) continue;
    const isTable = language === "console" || block.closest(".language-text") !== null;
    block.classList.add(isTable ? "wraps-wide" : "wraps");
    optionsInOnePiece(block);
  }
});

function optionsInOnePiece(block) {
  const texts = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
  const nodes = [];
  while (texts.nextNode()) nodes.push(texts.currentNode);
  for (const node of nodes) {
    const parts = node.textContent.split(/((?<![\w-])--?[A-Za-z][\w-]*)/); // every second one is an option
    if (parts.length > 1) node.replaceWith(...parts.map((part, number) => (number % 2 ? inOnePiece(part) : part)));
  }
}

function inOnePiece(text) {
  const span = document.createElement("span");
  span.className = "option";
  span.textContent = text;
  return span;
}

/* After a slash, a dot, a colon, an equals sign, a comma; after an underscore or a dash only of what is long without. */
function breakable(text) {
  const parts = text.split(/(?<=[/.:=,]|__)(?=[A-Za-z0-9])/).flatMap((part) => (part.length > SHORT_LETTERS ? part.split(/(?<=[_-])(?=[^_-])/) : [part]));
  return parts.flatMap((part, number) => (number ? [document.createElement("wbr"), part] : [part]));
}
