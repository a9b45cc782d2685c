// The page of a profile: its flame chart.

draw(document.getElementById("flame"), JSON.parse(document.getElementById("chart").textContent));
