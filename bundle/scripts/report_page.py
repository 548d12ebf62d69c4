# Copyright 2026 The DeepRS Authors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""The page of a report: its style, and the few blocks it is made of.

One file that opens without a network: no script, no font, no picture from elsewhere. Text that comes from data (case
names, structures, settings) passes through :func:`text`, here or at the caller, before it reaches the page.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from string import Template

from matplotlib.figure import Figure

from scripts.figures import figure_to_png

UNDEFINED = '<span class="undefined">–</span>'

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { --ink: #1b1f24; --faint: #6b7280; --line: #e5e7eb; color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1120px; padding: 3.5rem 1.5rem 4rem; background: #fff; color: var(--ink);
  font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
h1 { margin: 0; font-size: 2rem; font-weight: 650; line-height: 1.2; letter-spacing: -0.02em; }
h2 { margin: 4rem 0 0.75rem; padding-top: 1.25rem; border-top: 1px solid var(--line); font-size: 1.35rem;
  font-weight: 650; letter-spacing: -0.01em; }
h3 { margin: 2.5rem 0 0.75rem; font-size: 1rem; font-weight: 650; }
h3 .rank { display: inline-block; margin-right: 0.6em; color: var(--faint); font-weight: 400; }
p { margin: 0 0 1rem; max-width: 68ch; }
.byline, .note, figcaption { color: var(--faint); }
.byline { margin-top: 0.5rem; }
.note, figcaption { font-size: 0.875rem; line-height: 1.5; }
.headline { display: flex; flex-wrap: wrap; gap: 1.5rem 3.5rem; margin: 2.5rem 0 0; padding: 0; }
.headline div { min-width: 9rem; }
.headline dt { color: var(--faint); font-size: 0.875rem; }
.headline dd { margin: 0; font-size: 2.25rem; font-weight: 400; line-height: 1.25; letter-spacing: -0.02em; }
.headline dd small { display: block; color: var(--faint); font-size: 0.875rem; font-weight: 400; letter-spacing: 0; }
.scroll { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; font-size: 0.9375rem; line-height: 1.4; }
th, td { padding: 0.45rem 0 0.45rem 1.75rem; text-align: right; white-space: nowrap;
  border-bottom: 1px solid var(--line); }
th { color: var(--faint); font-size: 0.8125rem; font-weight: 400; vertical-align: bottom; }
th:first-child, td:first-child, .words th, .words td { padding-left: 0; text-align: left; }
.words th, .words td { padding-right: 1.75rem; white-space: normal; vertical-align: top; }
tbody th { color: var(--ink); font-size: inherit; min-width: 8rem; white-space: normal; }
tr:last-child th, tr:last-child td { border-bottom-color: transparent; }
thead tr:last-child th { border-bottom-color: var(--ink); }
.spread, .undefined { color: var(--faint); font-size: 0.85em; }
figure { margin: 0; }
figure img { display: block; width: 100%; height: auto; }
figcaption { margin-top: 0.5rem; max-width: 62ch; }
.chart { max-width: 680px; margin: 0.5rem 0 2rem; }
.even table { width: 100%; max-width: 680px; }
.row { display: flex; flex-wrap: wrap; align-items: flex-start; gap: 1.5rem; margin-bottom: 1.5rem; }
.row > * { min-width: 0; }
.legend { display: flex; flex-wrap: wrap; gap: 0.25rem 1.25rem; margin: 0 0 1rem; padding: 0; list-style: none;
  font-size: 0.875rem; }
.legend i { display: inline-block; width: 1.4em; height: 0; margin-right: 0.5em; border-top: 3px solid;
  vertical-align: middle; }
.legend i.broken { border-top: 2px dashed #8b929c; }
.legend i.filled { width: 0.8em; border-top-width: 0.8em; }
details { margin: 1.5rem 0; }
summary { cursor: pointer; color: var(--faint); }
details[open] summary { margin-bottom: 1rem; }
@media (max-width: 720px) {
  body { padding: 2rem 1rem 3rem; }
  h2 { margin-top: 3rem; }
  .row > * { flex: 1 1 100% !important; }
  table { font-size: 0.875rem; }
  th, td { padding-left: 0.8rem; }
  tbody th { min-width: 6rem; }
}
@media print { h3, figure, tr { break-inside: avoid; } body { padding: 0; } }
</style>
</head>
<body>
<header>
<h1>$title</h1>
<p class="byline">$byline</p>
$headline
</header>
<main>
$body
</main>
</body>
</html>
""")


def text(value: object) -> str:
    """Return ``value`` as text that stands in HTML for itself, whatever characters are in it."""
    return html.escape(str(value), quote=True)


def number(value: float | None, digits: int) -> str:
    """Return a number with ``digits`` decimals, or a dash where it is not defined."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    return f"{value:.{digits}f}".replace("-", "−")


def mean_and_spread(statistics: Mapping[str, float] | None, digits: int) -> str:
    """Return mean ± standard deviation of an entry of ``metrics.json``, or a dash where there is none."""
    if not statistics or number(statistics.get("mean"), digits) == UNDEFINED:
        return UNDEFINED
    spread = number(statistics.get("std"), digits)
    tail = "" if spread == UNDEFINED else f' <span class="spread">± {spread}</span>'
    return number(statistics["mean"], digits) + tail


def table(head: Sequence[str], rows: Iterable[Sequence[str]], words: bool = False) -> str:
    """Return a table of cells that are HTML already; the first cell of a row is its heading, ``words`` are set left."""
    cells = "".join(f'<th scope="col">{cell}</th>' for cell in head)
    lines = "".join(
        f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>\n"
        for first, *rest in rows
    )
    kind = ' class="words"' if words else ""
    header = f"<thead><tr>{cells}</tr></thead>\n" if head else ""
    return f'<div class="scroll"><table{kind}>\n{header}<tbody>\n{lines}</tbody></table></div>\n'


def picture(figure: Figure, caption: str, kind: str = "") -> str:
    """Return a figure as part of the page, the picture inside it; ``caption`` is plain text and serves the blind too.

    In a ``.row`` pictures share the width by their own widths, so that those of equal height stay so.
    """
    data = base64.b64encode(figure_to_png(figure)).decode("ascii")
    style = f' class="{kind}"' if kind else f' style="flex: {figure.get_figwidth():.2f} 1 0"'
    return (
        f'<figure{style}><img alt="{text(caption)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{text(caption)}</figcaption></figure>\n"
    )


def section(title: str, *blocks: str) -> str:
    """Return a section of the page: its heading and blocks of HTML."""
    return f"<section>\n<h2>{text(title)}</h2>\n{''.join(blocks)}</section>\n"


def paragraph(words: str, kind: str = "") -> str:
    """Return plain text as a paragraph; ``kind`` names its class in the style."""
    style = f' class="{kind}"' if kind else ""
    return f"<p{style}>{text(words)}</p>\n"


def row(*blocks: str) -> str:
    """Return blocks side by side, one under the other on a narrow page."""
    return f'<div class="row">\n{"".join(blocks)}</div>\n'


def aside(content: str, width: float) -> str:
    """Return a block that takes ``width`` inches' share of a row."""
    return f'<div style="flex: {width:.2f} 1 0">{content}</div>\n'


def legend(colors: Mapping[str, str], broken: str = "", filled: bool = False) -> str:
    """Return a legend of coloured lines (squares if ``filled``), and of a broken line when ``broken`` names it."""
    kind = ' class="filled"' if filled else ""
    items = [f'<li><i{kind} style="border-color: {color}"></i>{text(name)}</li>' for name, color in colors.items()]
    items += [f'<li><i class="broken"></i>{text(broken)}</li>'] if broken else []
    return f'<ul class="legend">{"".join(items)}</ul>\n'


def key_figures(entries: Iterable[tuple[str, str, str]]) -> str:
    """Return the few numbers a reader came for: (what, HTML number, remark) each, in large type."""
    blocks = (
        f"<div><dt>{text(what)}</dt><dd>{figure}<small>{text(remark)}</small></dd></div>"
        for what, figure, remark in entries
    )
    return f'<dl class="headline">{"".join(blocks)}</dl>'
