// How a chart is drawn into an element.

function draw(element, spec) {
  return vegaEmbed(element, spec, {
    actions: false,
    ast: true, // expressions are interpreted: the page's policy allows no eval
    renderer: "svg",
    config: { background: null },
    tooltip: { theme: "custom" },
  });
}
