// The rule of compress/analysis/choose.py, so that the sliders move the recommendation; tested against it.
// Rows are told by their number; a budget is {speedup: times, drop: fraction of top-1}.

function offers(rows) {
  const found = [];
  rows.forEach((row, index) => {
    const speedup = row.teacher ? 1 : row.speedup;
    const drop = row.teacher ? 0 : row.drop;
    if (row.deployed && speedup !== null && drop !== null) {
      found.push({ index, speedup, drop, row });
    }
  });
  const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
  return found.sort(
    (a, b) =>
      order(b.row.top1, a.row.top1) ||
      order(a.row.latency_s, b.row.latency_s) ||
      order(a.row.key[0], b.row.key[0]) ||
      order(a.row.key[1], b.row.key[1]),
  );
}

// The most accurate of the deployed rows that meet both bounds; the fastest of equals. `front`
// numbers the rows of the front, fastest first.
function choose(rows, budget, front) {
  const offered = offers(rows);
  const quick = (offer) => offer.speedup >= budget.speedup;
  const right = (offer) => offer.drop <= budget.drop;
  const fitting = offered.filter((offer) => quick(offer) && right(offer));
  const others = offered.filter((offer) => !offer.row.teacher);
  const beside = fitting.length ? neighbours(rows, front, fitting[0].row) : {};
  return {
    picked: fitting.length ? fitting[0].index : null,
    nextFaster: beside.faster ?? null,
    nextMoreAccurate: beside.better ?? null,
    nearestMiss: nearest(others.filter((offer) => !fitting.includes(offer)), budget),
    runnerUp: fitting.length > 1 ? fitting[1].index : null,
    fitting: fitting.map((offer) => offer.index),
    misses: others
      .filter((offer) => !fitting.includes(offer))
      .map((offer) => ({ ...offer, slow: !quick(offer), lossy: !right(offer) })),
    relaxations: fitting.length
      ? []
      : [
          relaxation("speedup", others.filter(right), (a, b) => a.speedup > b.speedup, false),
          relaxation("drop", others.filter(quick), (a, b) => a.drop < b.drop, true),
        ].filter(Boolean),
  };
}

// The next rows of the front, fastest first, on both sides of a row.
function neighbours(rows, front, row) {
  return {
    faster: front.filter((index) => rows[index].latency_s < row.latency_s).pop(),
    better: front.find((index) => rows[index].top1 > row.top1),
  };
}

// The offer that is least beyond the bounds, added up: a point weighs as much as a tenth too slow.
function nearest(missing, budget) {
  const beyond = ({ speedup, drop }) =>
    (speedup >= budget.speedup ? 0 : Math.abs(Math.log(speedup / budget.speedup))) +
    (drop <= budget.drop ? 0 : 10 * Math.abs(drop - budget.drop));
  let found = null;
  for (const offer of missing) {
    if (found === null || beyond(offer) < beyond(found)) found = offer;
  }
  return found && found.index;
}

// The lines of the table of a choice: what a row is, and its number; a row may be two of them.
function lines(choice) {
  const shown = [
    ["pick", choice.picked],
    ["runner-up", choice.runnerUp],
    ["next faster", choice.nextFaster],
    ["next more accurate", choice.nextMoreAccurate],
    ["nearest miss", choice.nearestMiss],
  ];
  const labels = new Map();
  for (const [label, index] of shown) {
    if (index !== null) labels.set(index, [...(labels.get(index) ?? []), label]);
  }
  return [...labels].map(([index, said]) => [said.join(", "), index]);
}

// The smallest change of one bound alone that lets a row in.
function relaxation(bound, candidates, better, up) {
  if (!candidates.length) return null;
  const best = candidates.reduce((first, next) => (better(next, first) ? next : first));
  return { bound, value: typed(best[bound], up), index: best.index };
}

// Four digits, rounded away from the row, so that the number shown does let it in.
function typed(exact, up) {
  const near = Number(exact.toPrecision(4));
  if (up ? near >= exact : near <= exact) return near;
  const step = 10 ** (Math.floor(Math.log10(exact)) - 3);
  return Number((near + (up ? step : -step)).toPrecision(4));
}
