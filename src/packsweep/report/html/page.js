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
  renderer: "svg", actions: false, config,
  tooltip: {theme: "custom", disableDefaultStyle: true}
};
const specs = JSON.parse(document.getElementById("specs").textContent);
const drawings = [...document.querySelectorAll("[data-chart]")].map(place => {
  const spec = {...specs[Number(place.dataset.chart)], description: place.dataset.described};
  return vegaEmbed(place, spec, options).catch(error => {
    const told = document.createElement("p");
    told.className = "error";
    told.textContent = `This chart could not be drawn (${error.message}); its data stand below.`;
    place.replaceChildren(told);
  });
});
Promise.all(drawings).then(() => document.documentElement.classList.add("drawn"));
