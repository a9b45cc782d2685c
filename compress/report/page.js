// The page: charts, the axes to choose, tables that sort, commands that copy.

const specs = JSON.parse(find("charts").textContent);

function draw(id) {
  return vegaEmbed(find(id), specs[id], {
    actions: false,
    ast: true, // expressions are interpreted: the page's policy allows no eval
    renderer: "svg",
    config: { background: null },
    tooltip: { theme: "custom" },
  });
}

const front = draw("front").then((drawn) => drawn.view);

async function signal(values) {
  const view = await front;
  for (const [name, value] of Object.entries(values)) view.signal(name, value);
  await view.runAsync();
}

function axes() {
  const chosen = ["x", "y"].map((side) => find(`${side}-axis`));
  const missing = [...new Set(chosen.flatMap((select) => data.missing[select.value]))];
  find("missing").textContent = missing.length ? `Not measured, not shown: ${missing.join(", ")}.` : "";
  find("front").setAttribute(
    "aria-label",
    `${chosen[1].selectedOptions[0].text} against ${chosen[0].selectedOptions[0].text}, with the Pareto front`,
  );
  signal({ x_key: chosen[0].value, y_key: chosen[1].value });
}

for (const side of ["x", "y"]) find(`${side}-axis`).addEventListener("change", axes);
for (const part of document.querySelectorAll(".scripted")) part.hidden = false;
axes();

const asked = Object.fromEntries(specs.front.params.map(({ name, value }) => [name, value]));
listen((choice) => {
  const { speedup, drop, picked, fitting } = choice ? { ...budget, ...choice } : asked;
  for (const row of document.querySelectorAll("tr[data-row]")) {
    row.classList.toggle("picked", Number(row.dataset.row) === picked);
  }
  signal({ speedup, drop, picked, fitting });
});

for (const chart of document.querySelectorAll(".chart:not(#front)")) {
  const fold = chart.parentElement.closest("details");
  if (!fold) draw(chart.id);
  // What is folded has no width yet.
  else fold.addEventListener("toggle", () => draw(chart.id), { once: true });
}

// A cell's first number, with its prefix; what has none comes last either way.
function number(text) {
  const found = text.replace(/[\u202f\u00a0]/g, "").match(/^[<>≤≥~]?\s*(-?[\d.]+) ?([kMG]?)/);
  return found ? found[1] * ({ k: 1e3, M: 1e6, G: 1e9 }[found[2]] ?? 1) : null;
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

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button.copy");
  if (!button) return;
  const code = button.parentElement.querySelector("code");
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code); // not allowed here: one key is left to press
    button.textContent = "Selected";
  }
  setTimeout(() => (button.textContent = "Copy"), 2000);
});

// Paper cannot be unfolded.
const unfolded = [];
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details.prints:not([open])")) {
    fold.open = true;
    unfolded.push(fold);
  }
});
addEventListener("afterprint", () => {
  for (const fold of unfolded.splice(0)) fold.open = false;
});
