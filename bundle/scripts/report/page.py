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

One file that opens without a network: no script, no font, no picture from elsewhere, and the page forbids itself to
fetch any. Text that comes from data (case names, structures, settings) passes through :func:`text`, here or at the
caller, before it reaches the page.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from string import Template

from matplotlib.figure import Figure

from ..files.marks import written_by
from ..pictures.figures import figure_to_png

# Section of metrics.json -> how the page calls it. "identity" is the pair as it lies, without any registration.
METHODS = {"segmentation": "Segmentation", "registration": "Registration", "identity": "No registration"}
# Measure of metrics.json -> heading and decimals.
MEASURES = {
    "dice": ("Dice ↑", 3),
    "hd95": ("HD95, mm ↓", 2),
    "asd": ("ASD, mm ↓", 2),
    "surface_dice_1": ("surface Dice 1 ↑", 3),
    "surface_dice_2": ("surface Dice 2 ↑", 3),
    "folding_percent": ("|J| ≤ 0, % ↓", 3),
    "tre": ("TRE, mm ↓", 2),
    "sdlogj": ("SD log |J| ↓", 3),
    "seconds": ("seconds ↓", 2),
}
PER_STRUCTURE = ("dice", "hd95", "asd", "surface_dice_1", "surface_dice_2")
SURFACES = (
    "HD95 is the 95th percentile of the distances between the surfaces, ASD their average. Surface Dice 1 and 2 are the"
    " share of both surfaces that lies within one or two voxels (of their smallest side) of the other. A structure that"
    " was missed, or found where there is none, has Dice and surface Dice 0 and no distance: (k of n) says that a"
    " distance is over k values where Dice is over n. One that neither has is left out of all."
)

UNDEFINED = '<span class="undefined">–</span>'

PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="$generator">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>$title</title>
<style>
$style</style>
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
$scripts</body>
</html>
""")


def page(title: str, byline: str, headline: str, body: str, scripts: str = "") -> str:
    """Return the whole page; ``title`` and ``byline`` are plain text, the other parts are HTML."""
    return PAGE.substitute(
        generator=text(written_by()),
        title=text(title),
        byline=text(byline),
        headline=headline,
        body=body,
        style=_beside("page.css"),
        scripts=scripts + script("tables.js"),
    )


def script(name: str) -> str:
    """Return a script that lies beside this module as an element of the page, the script inside it."""
    return f"<script>\n{_beside(name)}</script>\n"


def _beside(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def text(value: object) -> str:
    """Return ``value`` as text that stands in HTML for itself, whatever characters are in it."""
    return html.escape(str(value), quote=True)


def number(value: float | None, digits: int) -> str:
    """Return a number with ``digits`` decimals, or a dash where it is not defined."""
    if value is None or not math.isfinite(value):
        return UNDEFINED
    return f"{value:.{digits}f}".replace("-", "−")


def signed(value: float, digits: int) -> str:
    """Return a difference with its sign, or a dash where it is not defined."""
    shown = number(value, digits)
    return f"+{shown}" if math.isfinite(value) and not shown.startswith("−") else shown


def count(amount: int, noun: str) -> str:
    """Return how many there are: ``1 case``, ``2 cases``."""
    return f"{amount} {noun}{'' if amount == 1 else 's'}"


def mean_and_spread(statistics: Mapping[str, float] | None, digits: int) -> str:
    """Return mean ± standard deviation of an entry of ``metrics.json``, or a dash where there is none."""
    if not statistics or number(statistics.get("mean"), digits) == UNDEFINED:
        return UNDEFINED
    spread = number(statistics.get("std"), digits)
    tail = "" if spread == UNDEFINED else f' <span class="spread">± {spread}</span>'
    return number(statistics["mean"], digits) + tail


def with_share(shown: str, share: str) -> str:
    """Return a figure and, where it is over fewer values than Dice, over how many: ``share``, such as ``3 of 4``."""
    return f'{shown} <span class="spread">({share})</span>' if share else shown


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
