"use strict";
// Colours are CSS variables: the browser resolves them, so light, dark and print share one drawing.
const ink = "var(--ink)", soft = "var(--soft)", line = "var(--line)";
const config = {
  background: null,
  // Vega measures text before it draws it, so it must know the font by name.
  font: getComputedStyle(document.body).fontFamily,
  view: {stroke: null},
  axis: {
    labelColor: ink, titleColor: soft, titleFontWeight: "normal", gridColor: line,
    domainColor: soft, tickColor: soft, labelFontSize: 12, titleFontSize: 12, tickCount: 5
  },
  legend: {
    labelColor: ink, labelFontSize: 12, offset: 6, columnPadding: 14
  },
  text: {fontSize: 12}
};
const options = {
  mode: "vega-lite", renderer: "svg", actions: false, config,
  tooltip: {theme: "custom", disableDefaultStyle: true}
};
const specs = JSON.parse(document.getElementById("specs").textContent);
const draw = place => {
  const spec = {...specs[Number(place.dataset.chart)], description: place.dataset.described};
  place.classList.add("begun");
  return vegaEmbed(place, spec, options).catch(error => {
    const line = document.createElement("p");
    line.className = "error";
    line.textContent = `This chart could not be drawn (${error.message}); its data stand below.`;
    place.replaceChildren(line);
  });
};
// A chart is as wide as its place, so what is folded is drawn when it is opened.
const drawVisible = () => Promise.all(
  [...document.querySelectorAll("[data-chart]:not(.begun)")].filter(each => each.offsetWidth).map(draw));
for (const group of document.querySelectorAll("details.group")) group.addEventListener("toggle", drawVisible);
drawVisible().then(() => document.documentElement.classList.add("drawn"));
