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

// The most accurate of the deployed rows that meet both bounds; the fastest of equals.
function choose(rows, budget) {
  const offered = offers(rows);
  const quick = (offer) => offer.speedup >= budget.speedup;
  const right = (offer) => offer.drop <= budget.drop;
  const fitting = offered.filter((offer) => quick(offer) && right(offer));
  const others = offered.filter((offer) => !offer.row.teacher);
  return {
    picked: fitting.length ? fitting[0].index : null,
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
