// The budget's two bounds, each a slider and a box, and the recommendation that they lead to.

const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);

function element(tag, text, name = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = name;
  return made;
}

function significant(x, digits = 3) {
  const exponent = Number(x.toExponential(digits - 1).split("e")[1]);
  return x.toFixed(Math.max(0, digits - 1 - exponent));
}

// A fraction as points and back; a shift of the decimal point, so that 1.1 points are 0.011.
const points = (fraction) => Number((100 * fraction).toPrecision(12));
const fraction = (text) => {
  const shifted = Number(`${text}e-2`);
  return Number.isNaN(shifted) ? Number(text) / 100 : shifted;
};
const pointsSaid = (x) => `${points(x)} point${points(x) === 1 ? "" : "s"}`;
const lost = (x) => `${(100 * x).toFixed(1).replace("-0.0", "0.0")} points`;

const BOUNDS = {
  speedup: {
    shown: (value) => String(value),
    read: Number,
    valid: (value) => value > 0 && value < Infinity,
    said: (value) => `at least ${value} times faster`,
    toSlider: (value, [low, high]) => (1000 * Math.log(value / low)) / Math.log(high / low),
    fromSlider: (share, [low, high]) =>
      Number((low * (high / low) ** (share / 1000)).toPrecision(3)),
  },
  drop: {
    shown: (value) => String(points(value)),
    read: fraction,
    valid: (value) => value >= 0 && value <= 1,
    said: (value) => `at most ${pointsSaid(value)} of ${data.word} lost`,
    toSlider: (value, [, high]) => (1000 * points(value)) / high,
    fromSlider: (share, [, high]) => fraction(((share * high) / 1000).toFixed(1)),
  },
};

const start = { speedup: data.start.speedup ?? data.sliders.speedup[0], drop: data.start.drop ?? 1 };
const budget = { ...start };
const unmoved = () => budget.speedup === start.speedup && budget.drop === start.drop;
const said = () => `${BOUNDS.speedup.said(budget.speedup)}, ${BOUNDS.drop.said(budget.drop)}`;

// Says what the budget leads to, `changed` gets the choice; none while the bounds are those that
// were asked for: that choice stands in the page, with all that is said of it.
function recommend(changed) {
  const choice = choose(data.rows, budget, data.front);
  const asked = find("asked");
  const same = asked !== null && unmoved();
  const live = find("live");
  if (asked) asked.hidden = !same;
  live.hidden = same;
  live.classList.toggle("none", choice.picked === null);
  live.replaceChildren(...(choice.picked === null ? nothing(choice, changed) : chosen(choice)));
  const title = (same ? asked : live).querySelector("h2").textContent;
  if (find("status").textContent !== title) find("status").textContent = title;
  find("reset").disabled = unmoved();
  changed(same ? null : choice);
}

function chosen(choice) {
  const row = data.rows[choice.picked];
  const numbers = element("div", "", "numbers");
  for (const [value, caption] of row.headline) {
    const cell = element("div", "");
    cell.append(element("b", value), element("span", caption));
    numbers.append(cell);
  }
  const found = [element("h2", `Chosen: ${row.name}`), numbers, table(choice)];
  found.push(element("p", row.why));
  if (choice.runnerUp !== null) found.push(element("p", runnerUp(row, data.rows[choice.runnerUp])));
  for (const text of warnings(choice)) found.push(element("p", text, "warning"));
  const misses = missed(choice);
  if (misses.length) found.push(folded("What does not fit", misses));
  found.push(command(row.command));
  return [condition(), ...found];
}

// What was picked and what stands beside it, as compress/report/choice_table.py has it.
function table(choice) {
  const made = element("table", "", "choice");
  const fill = (row, tag, cells) =>
    row.append(...cells.map((cell, i) => element(tag, cell, i < 2 ? "" : "number")));
  fill(made.createTHead().insertRow(), "th", data.headings);
  const body = made.createTBody();
  for (const [label, index] of lines(choice)) {
    const { name, numbers } = data.rows[index];
    fill(body.insertRow(), "td", [label, name, ...numbers]);
  }
  const scroll = element("div", "", "scroll");
  scroll.append(made);
  return scroll;
}

// What the choice is for; the sliders know two bounds and no probabilities.
function condition() {
  const left = data.narrower ? " (what else was asked for does not count here)" : "";
  return element("p", `For ${said()}${left}:`, "soft");
}

function runnerUp(row, other) {
  const behind = row.top1 - other.top1;
  const less = behind > 0 ? `${lost(behind)} less ${data.word}` : `the same ${data.word}`;
  return `Runner-up: ${other.name}, ${less}, ${significant(1e3 * other.latency_s)} ms an image.`;
}

function warnings(choice) {
  const row = data.rows[choice.picked];
  const found = [];
  if (row.drop_high !== null && row.drop_high > budget.drop) {
    found.push(`Not certain: the interval of the drop reaches ${lost(row.drop_high)}.`);
  }
  if (row.speedup_low !== null && row.speedup_low < budget.speedup) {
    found.push(
      `Not certain: the interval of the speedup begins at ${significant(row.speedup_low)} times.`,
    );
  }
  const alike = data.alike[choice.picked].filter((index) => choice.fitting.includes(index));
  if (alike.length) {
    const names = alike.map((index) => data.rows[index].name).join(", ");
    found.push(
      `By these images it cannot be told apart in accuracy from ${names} (McNemar's exact test).`,
    );
  }
  return found;
}

function nothing(choice, changed) {
  const found = [
    condition(),
    element("h2", "Nothing fits"),
    ...(choice.nearestMiss === null ? [] : [table(choice)]),
  ];
  for (const bound of ["speedup", "drop"]) {
    const relaxed = choice.relaxations.find((x) => x.bound === bound);
    const what = bound === "speedup" ? "speedup" : "drop";
    if (!relaxed) {
      found.push(element("p", `Another ${what} alone lets nothing in: no row meets the other bound.`));
      continue;
    }
    const text = `${BOUNDS[bound].said(relaxed.value)} lets in ${data.rows[relaxed.index].name}`;
    const button = element("button", text[0].toUpperCase() + text.slice(1));
    button.type = "button";
    button.addEventListener("click", () => {
      budget[bound] = relaxed.value;
      show();
      recommend(changed);
      find(bound).focus();
    });
    found.push(button);
  }
  return [...found, folded("What does not fit", missed(choice))];
}

function missed(choice) {
  const found = choice.misses.map(({ row, speedup, drop, slow, lossy }) => {
    const reasons = [];
    if (slow) {
      reasons.push(
        `${significant(speedup)} times faster, ${significant(budget.speedup / speedup)} times too slow`,
      );
    }
    if (lossy) {
      const over = significant(100 * (drop - budget.drop), 2);
      reasons.push(`${lost(drop)} of ${data.word} lost, ${over} points too many`);
    }
    return `${row.name}: ${reasons.join("; ")}`;
  });
  for (const row of data.rows) {
    if (row.dropped !== null) found.push(`${row.name}: dropped. ${row.dropped}`);
    else if (row.deployed && !row.teacher && (row.speedup === null || row.drop === null)) {
      found.push(`${row.name}: not compared with a teacher in its runtime`);
    }
  }
  return found;
}

function list(lines) {
  const made = document.createElement("ul");
  made.append(...lines.map((line) => element("li", line)));
  return made;
}

function folded(summary, lines) {
  const made = document.createElement("details");
  made.append(element("summary", summary), list(lines));
  return made;
}

function command(text) {
  const made = find("command").content.cloneNode(true);
  made.querySelector("code").textContent = text;
  made.querySelector("button").hidden = false;
  return made;
}

// Puts the budget into the sliders and the boxes.
function show() {
  for (const [bound, { shown, said: words, toSlider }] of Object.entries(BOUNDS)) {
    find(bound).value = toSlider(budget[bound], data.sliders[bound]);
    find(bound).setAttribute("aria-valuetext", words(budget[bound]));
    if (document.activeElement !== find(`${bound}-box`)) {
      find(`${bound}-box`).value = shown(budget[bound]);
    }
  }
}

function listen(changed) {
  for (const [bound, { read, valid, fromSlider }] of Object.entries(BOUNDS)) {
    const set = (value) => {
      budget[bound] = value;
      show();
      recommend(changed);
    };
    find(bound).addEventListener("input", (event) =>
      set(fromSlider(Number(event.target.value), data.sliders[bound])),
    );
    const box = find(`${bound}-box`);
    box.addEventListener("input", () => {
      const value = box.value === "" ? NaN : read(box.value);
      box.setAttribute("aria-invalid", String(!valid(value)));
      if (valid(value)) set(value);
    });
    box.addEventListener("blur", () => {
      box.removeAttribute("aria-invalid");
      show();
    });
  }
  find("reset").addEventListener("click", () => {
    Object.assign(budget, start);
    show();
    recommend(changed);
  });
  show();
  recommend(changed);
}
