// The page of a profile or of a comparison: its flame charts.

for (const element of document.querySelectorAll("[data-chart]"))
  draw(element, JSON.parse(document.getElementById(element.dataset.chart).textContent));
