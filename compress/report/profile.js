// The page of a profile: its flame chart.

vegaEmbed(document.getElementById("flame"), JSON.parse(document.getElementById("chart").textContent), {
  actions: false,
  ast: true, // expressions are interpreted: the page's policy allows no eval
  renderer: "svg",
  config: { background: null },
  tooltip: { theme: "custom" },
});
