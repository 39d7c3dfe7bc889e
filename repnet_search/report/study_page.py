"""Style and script of the HTML report: plain, light and dark, narrow and printed."""

from __future__ import annotations

import json
from typing import Final

from repnet_search.report.figures_style import BLUE
from repnet_search.report.memory_plot import BUDGET_COLOUR, STATE_COLOUR

POLICY: Final = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
)
"""Nothing is loaded from anywhere; plotly.js makes functions of text for figures of very many points."""

STYLE: Final = """
:root { --text: #1b1f24; --soft: #5b636d; --line: #d5d9df; --page: #ffffff; --box: #f5f6f8; --mark: #e8f1f8;
  --link: #0a5c96; --grid: #e3e6ea; }
@media (prefers-color-scheme: dark) { :root { --text: #e4e7ea; --soft: #a2abb5; --line: #3b424a; --page: #14171a;
  --box: #1d2126; --mark: #16303f; --link: #6fb7ea; --grid: #30363d; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 3rem; max-width: 62rem; background: var(--page); color: var(--text);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .4rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.6rem 0 .8rem; padding-bottom: .3rem; border-bottom: 1px solid var(--line);
  overflow-wrap: anywhere; }
h3 { font-size: 1rem; margin: 0 0 .3rem; }
p { margin: .6rem 0; max-width: 48rem; overflow-wrap: anywhere; }
header p { font-size: 1.1rem; color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding: .7rem 0; font-size: .9rem; }
a { color: var(--link); }
ul { padding-left: 1.25rem; max-width: 48rem; }
li { margin: .35rem 0; overflow-wrap: anywhere; }
.answer { padding: .8rem 1rem; background: var(--mark); border-left: 4px solid var(--link); font-size: 1.1rem; }
.table { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-size: .9rem; }
.title { font-weight: 600; font-size: .95rem; margin: 1.2rem 0 0; }
.title + .table { margin-top: .2rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; }
td { min-width: 3rem; }
th { color: var(--soft); font-weight: 600; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.bar { color: var(--link); white-space: nowrap; letter-spacing: -.5px; font-size: .75rem; line-height: 2; }
.strong td { font-weight: 700; background: var(--mark); }
pre { overflow-x: auto; padding: .8rem 1rem; background: var(--box); border: 1px solid var(--line);
  font: 13px/1.5 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
pre:has(+ ul) { white-space: pre-wrap; overflow-wrap: anywhere; }
figure { margin: 1.4rem 0 1.8rem; break-inside: avoid; }
.frame { overflow-x: auto; }
.wide .plot { min-width: 44rem; }
figcaption { color: var(--soft); font-size: .9rem; max-width: 48rem; }
details { margin-top: .4rem; font-size: .9rem; }
summary { cursor: pointer; color: var(--link); }
footer { margin-top: 3rem; color: var(--soft); font-size: .85rem; }
@media (max-width: 34rem) {
  body { padding: 1rem .8rem 2rem; }
  th, td { padding-right: .6rem; }
  .many thead, .many .bar, .many td:empty { display: none; }
  .many table, .many tbody, .many tr { display: block; }
  .many tr { padding: .45rem .4rem; border-bottom: 1px solid var(--line); }
  .many td { display: flex; gap: .8rem; padding: .05rem 0; border: 0; text-align: left; white-space: normal; }
  .many td::before { content: attr(data-heading); flex: 0 0 8rem; color: var(--soft); font-weight: 400; }
  .many .strong { background: var(--mark); }
}
@media print {
  :root { --text: #000; --soft: #444; --line: #bbb; --page: #fff; --box: #f6f6f6; --mark: #eef3f7; --link: #0a5c96;
    --grid: #e3e6ea; }
  body { max-width: none; padding: 0; font-size: 11pt; }
  nav, details { display: none; }
  h2 { break-after: avoid; }
  pre { white-space: pre-wrap; }
  tr { break-inside: avoid; }
  .table, .frame { overflow: visible; }
}
"""

_ON_DARK: Final = {BLUE: "#2B8FD0", BUDGET_COLOUR: "#FF7A85", STATE_COLOUR: "#5A626B"}
"""What stands for colours of the figures that a dark page would swallow, or that would blind on it."""

DRAW_FIGURES: Final = """
"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const specs = [...document.querySelectorAll("script[data-figure]")].map(
    item => [document.getElementById(item.dataset.figure), item.textContent]);
  const onDark = ON_DARK;
  const config = { displaylogo: false, responsive: true };
  function template(isDark) {
    const [text, grid, box] = isDark ? ["#e4e7ea", "#30363d", "#1d2126"] : ["#1b1f24", "#e3e6ea", "#ffffff"];
    const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, automargin: true,
      title: { font: { size: 14 } } };
    return { layout: {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", xaxis: axis, yaxis: axis,
      annotationdefaults: { arrowcolor: text }, font: { color: text, family: "system-ui, sans-serif", size: 13 },
      hoverlabel: { bgcolor: box, bordercolor: text, font: { color: text } } } };
  }
  function draw(isDark) {
    for (const [place, spec] of specs) {
      const swap = (text, [colour, other]) => text.replaceAll(colour, other);
      const { data, layout } = JSON.parse(isDark ? Object.entries(onDark).reduce(swap, spec) : spec);
      Plotly.newPlot(place, data, { ...layout, template: template(isDark) }, config);
    }
  }
  draw(dark.matches);
  dark.addEventListener("change", () => draw(dark.matches));
  addEventListener("beforeprint", () => { if (dark.matches) draw(false); });
  addEventListener("afterprint", () => { if (dark.matches) draw(true); });
})();
""".replace("ON_DARK", json.dumps(_ON_DARK))
