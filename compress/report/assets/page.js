// The page: charts, the axes to choose, commands that copy.

const specs = JSON.parse(find("charts").textContent);

const front = draw(find("front"), specs.front).then((drawn) => drawn.view);

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
  if (!fold) draw(chart, specs[chart.id]);
  // What is folded has no width yet.
  else fold.addEventListener("toggle", () => draw(chart, specs[chart.id]), { once: true });
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
