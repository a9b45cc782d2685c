// Tables that sort by a click on a heading.

// A cell's first number, with its prefix; what has none comes last either way.
function number(text) {
  const plain = text.replace(/[\u202f\u00a0]/g, "");
  const found = plain.match(/^[<>≤≥~]?\s*([+-]?[\d.]+) ?(min\b|h\b|[kMG]?)/);
  return found ? found[1] * ({ k: 1e3, M: 1e6, G: 1e9, min: 60, h: 3600 }[found[2]] ?? 1) : null;
}

function sort(head) {
  const up = head.getAttribute("aria-sort") !== "ascending";
  const numeric = head.classList.contains("number");
  const body = head.closest("table").tBodies[0];
  const value = (row) => {
    const text = row.cells[head.cellIndex].textContent.trim();
    return numeric ? number(text) : text || null;
  };
  const order = (a, b) => {
    const [x, y] = [value(a), value(b)];
    if (x === null || y === null) return (x === null) - (y === null);
    return (x > y ? 1 : x < y ? -1 : 0) * (up ? 1 : -1);
  };
  for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  body.append(...[...body.rows].sort(order));
}

for (const head of document.querySelectorAll(".sortable thead")) {
  head.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) sort(button.closest("th"));
  });
}
