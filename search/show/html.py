"""Pieces of a report's HTML: everything that is not ours to trust is escaped here.

The page asks for nothing over the network, and its Content-Security-Policy keeps the browser from doing so.
"""

import base64
import functools
import gzip
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from typing import Any, Final

from plotly.graph_objects import Figure
from plotly.offline import get_plotlyjs

_POLICY: Final = (  # Plotly's parallel coordinates compile their drawing code, so eval must be allowed
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; img-src data: blob:"
)
_STYLE: Final = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #24292f; --dim: #5f6872; --line: #d9dde1; --band: #f3f4f5 }
@media (prefers-color-scheme: dark) {
  :root { --paper: #16191d; --ink: #d8dde3; --dim: #98a1ab; --line: #363c44; --band: #1f2329 }
}
* { box-sizing: border-box } html { scrollbar-gutter: stable }
body { margin: 0 auto; max-width: 76rem; padding: 1.5rem clamp(1rem, 3vw, 2.5rem) 4rem; background: var(--paper);
  color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "Noto Sans", sans-serif }
h1 { font-size: 1.7rem; line-height: 1.25; margin: .5rem 0; overflow-wrap: anywhere }
h2 { font-size: 1.2rem; margin: 2.8rem 0 .4rem; padding-top: .8rem; border-top: 1px solid var(--line) }
p { max-width: 46rem; margin: .4rem 0 } .dim, p.caption { color: var(--dim) } p.caption { font-size: .9rem }
.numbers { display: flex; flex-wrap: wrap; gap: .8rem 2.4rem; margin: 1.2rem 0; padding: 0 }
.numbers div { display: flex; flex-direction: column-reverse } .numbers dd { margin: 0; font-size: 1.45rem }
.numbers dt { color: var(--dim); font-size: .85rem } .numbers, td, th { font-variant-numeric: tabular-nums }
.figure { overflow: hidden } .scroll { overflow-x: auto } .wide { min-width: 48rem }
table { border-collapse: collapse; font-size: .875rem; margin: .8rem 0 } table.trials { width: 100% }
th, td { padding: .25rem .65rem; text-align: left; vertical-align: top; white-space: nowrap }
table.trials td, th.number { text-align: right }
table.trials .state, table.trials .text, .reason td { text-align: left }
table.searched th { cursor: pointer } th[aria-sort=ascending]::after { content: " \\2191" }
th[aria-sort=descending]::after { content: " \\2193" } .tools { margin-top: 1rem } .tools > * { font: inherit }
.tools input { width: 22rem; max-width: 100%; padding: .2rem .5rem } .tools [hidden] { display: none }
th { color: var(--dim); font-weight: 600; border-bottom: 1px solid var(--line); vertical-align: bottom }
tbody tr:hover { background: var(--band) }
th { white-space: normal } td.text { white-space: normal } td.text:last-child { min-width: 11rem }
tr.reason td { white-space: normal; overflow-wrap: anywhere; padding-top: 0; background: var(--paper) }
tr.PRUNED td { color: var(--dim) } .state { font-size: .78rem; letter-spacing: .03em }
tr.COMPLETE .state { color: #2e8b57 } tr.PRUNED .state { color: #b07d12 } tr.FAIL .state { color: #d04a4a }
table.asked th { border: 0; font-weight: 400; vertical-align: top } table.asked td { white-space: normal }
table.asked td { overflow-wrap: anywhere } pre { margin: 0; white-space: pre-wrap; font-size: .8rem }
@media (prefers-color-scheme: dark) {
  .shaded .scatterlayer, .shaded .cbfills { filter: invert(1) hue-rotate(180deg) }
}
.js-plotly-plot .main-svg text:not(.hoverlayer text) { fill: var(--ink) !important; text-shadow: none !important }
details { margin: .8rem 0 } summary { cursor: pointer; color: var(--dim) } .narrow { max-width: 30rem }
.sides { display: flex; flex-wrap: wrap; gap: 0 3rem } .sides > * { min-width: 0; max-width: 100% }
section + section { margin-top: 4rem; border-top: 3px solid var(--line) } a { color: inherit }
h3 { font-size: 1rem; margin: 1.6rem 0 .2rem } h3 + .scroll table.trials, details table.trials { width: auto }
.js-plotly-plot .modebar-group { background: none !important } .modebar-btn path { fill: var(--dim) !important }
.js-plotly-plot .gridlayer path, .js-plotly-plot .zerolinelayer path { stroke: var(--line) !important }
"""
_DRAW: Final = """
(async () => {
  const boxes = document.querySelectorAll(".figure"), packed = document.getElementById("plotly").textContent;
  if (!("DecompressionStream" in window)) {
    for (const box of boxes) box.textContent = "A browser of 2023 or later draws this figure.";
    return;
  }
  const bytes = Uint8Array.from(atob(packed), letter => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
  const touched = matchMedia("(pointer: coarse)").matches;
  for (const box of boxes) {
    const figure = JSON.parse(box.nextElementSibling.textContent);
    const words = JSON.parse(box.closest("section")?.querySelector("script.hovers")?.textContent ?? "{}");
    for (const trace of figure.data)
      if (Array.isArray(trace.customdata)) trace.customdata = trace.customdata.map(key => words[key] ?? key);
    if (touched) figure.layout.dragmode = false;
    const without = ["sendChartToCloud", "sendDataToCloud", "select2d", "lasso2d", "autoScale2d"];
    const options = {responsive: true, displaylogo: false, modeBarButtonsToRemove: without};
    if (box.clientWidth < 600) options.displayModeBar = false;
    Plotly.newPlot(box, figure.data, figure.layout, options);
  }
})();
"""
_SEARCH: Final = """
for (const table of document.querySelectorAll("table.searched")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells], lines = [];
  const names = heads.map(head => head.textContent.replaceAll(" ", "_"));
  for (const row of [...body.rows]) {
    if (row.className === "reason") lines.at(-1).rows.push(row);
    else lines.push({rows: [row], values: [...row.cells].map(cell => cell.textContent)});
  }
  for (const line of lines) line.text = line.rows.map(row => row.textContent).join(" ").toLowerCase();
  const tools = document.createElement("p");
  tools.className = "tools";
  tools.innerHTML = '<input type="search" aria-label="filter"> <button type="button">more</button> <span></span>';
  table.parentNode.before(tools);
  const [field, more, count] = tools.children, STEP = 200;
  field.placeholder = "filter, such as: " + (names.includes("state") ? "complete accuracy>0.8" : "accuracy<0.5");
  let most = STEP, column = -1, sign = 1;
  const holds = {"<=": (a, b) => a <= b, ">=": (a, b) => a >= b, "<": (a, b) => a < b, ">": (a, b) => a > b,
    "=": (a, b) => a === b};
  const matches = word => {
    const [, name, is, value] = word.match(/^(.+?)(<=|>=|<|>|=)(.+)$/) ?? [], at = names.indexOf(name);
    if (at < 0) return line => line.text.includes(word.toLowerCase());
    if (isNaN(value)) return line => is === "=" && line.values[at].toLowerCase() === value.toLowerCase();
    return line => line.values[at] !== "" && holds[is](Number(line.values[at]), Number(value));
  };
  const compare = (one, other) => {
    const a = one.values[column], b = other.values[column];
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (isNaN(a) || isNaN(b) ? a.localeCompare(b) : a - b);
  };
  const draw = () => {
    const wanted = field.value.split(/\\s+/).filter(Boolean).map(matches);
    const found = lines.filter(line => wanted.every(match => match(line)));
    if (column >= 0) found.sort(compare);
    body.replaceChildren(...found.slice(0, most).flatMap(line => line.rows));
    count.textContent = `${Math.min(most, found.length)} of ${found.length}`;
    more.hidden = found.length <= most;
  };
  field.addEventListener("input", () => { most = STEP; draw(); });
  more.addEventListener("click", () => { most += 5 * STEP; draw(); });
  heads.forEach((head, at) => head.addEventListener("click", () => {
    const isText = lines.some(line => isNaN(line.values[at]));
    sign = at === column ? -sign : isText ? 1 : -1;
    column = at;
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    draw();
  }));
  draw();
}
"""


def page(title: str, parts: Iterable[str], refresh: int | None = None) -> str:
    """The whole document; Plotly's code is in it once, if there is a figure.

    A browser loads it again every ``refresh`` seconds.
    """
    body = "\n".join(parts)
    script = f"<script>{_SEARCH}</script>\n" if "searched" in body else ""
    if 'class="figure' in body:
        script += f'<script type="text/plain" id="plotly">{packed_plotly()}</script>\n<script>{_DRAW}</script>\n'
    again = "" if refresh is None else f'<meta http-equiv="refresh" content="{refresh}">\n'
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n{again}'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<link rel="icon" href="data:,">\n<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n{body}\n{script}</body>\n</html>\n"
    )


@functools.cache
def packed_plotly() -> str:
    """Plotly's code, gzipped, in base64: two fifths of its 4.8 MB. Its Python package brings no smaller bundle."""
    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), mtime=0)).decode()


def moment(written: str | datetime) -> str:
    """A time as the page shows all of them; what is no time in ISO's format stays as it is.

    >>> moment("2026-01-31T13:05:59+01:00")
    '2026-01-31 12:05 UTC'
    """
    try:
        time = datetime.fromisoformat(written) if isinstance(written, str) else written
        time = time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        return str(written)
    return f"{time:%Y-%m-%d %H:%M} UTC"


def section(parts: Iterable[str], name: str = "") -> str:
    """Parts that belong together, such as those of a study; a link leads to its ``name``."""
    place = f' id="{escape(name)}"' if name else ""
    return f"<section{place}>\n{chr(10).join(parts)}\n</section>"


def hovers(words: Mapping[str, str]) -> str:
    """What the figures of a section show of a point besides where it is, by its customdata."""
    content = json.dumps({key: escape(text, quote=False).replace("\n", "<br>") for key, text in words.items()})
    return f'<script type="application/json" class="hovers">{_in_script(content)}</script>'


def _in_script(content: str) -> str:
    """JSON in which nothing ends the element that it stands in."""
    return content.replace("<", r"\u003c")


def contents(links: Iterable[tuple[str, str]]) -> str:
    """A line of links to sections: what each is called here, and its name."""
    anchors = (f'<a href="#{escape(name)}">{escape(text)}</a>' for text, name in links)
    return f"<p>{' · '.join(anchors)}</p>"


def details(summary: str, content: str) -> str:
    """Folded away until its summary is clicked."""
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>"


def side_by_side(parts: Iterable[str]) -> str:
    """Below each other where there is no room."""
    return f'<div class="sides">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def heading(text: str, level: int = 2) -> str:
    return f"<h{level}>{escape(text)}</h{level}>"


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph; ``kind`` may be dim or caption."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"


def numbers(values: dict[str, str]) -> str:
    """What matters most, in large type: a value by its name."""
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in values.items())
    return f'<dl class="numbers">{items}</dl>'


def figure(drawing: Figure, kind: str = "") -> str:
    """A Plotly figure. A ``wide`` one scrolls sideways on a narrow screen instead of being squeezed; a ``shaded`` one
    says by dark and light what on dark paper is said the other way round.
    """
    content = _in_script(drawing.to_json(validate=False))
    outer = "scroll" if "wide" in kind else ""
    box = f'<div class="figure {kind}" style="height: {int(drawing.layout.height)}px"></div>'
    return f'<div class="{outer}">{box}<script type="application/json">{content}</script></div>'


@dataclass(frozen=True)
class Line:
    """A line of a table."""

    cells: Sequence[str]
    state: str = ""
    """COMPLETE, PRUNED, FAIL, or another"""
    remark: str = ""
    """Stands below the cells, across the table"""


def table(
    names: Sequence[str], lines: Iterable[Line], texts: frozenset[str] = frozenset(), *, searched: bool = False
) -> str:
    """A table whose columns hold numbers, but for "state" and those named in ``texts``.

    A ``searched`` one is sorted by a click on a column's name, and filtered by what is typed above it; of many lines,
    it shows the first. Without scripts, it shows all of them.
    """
    kinds = ["state" if name == "state" else "text" if name in texts else "number" for name in names]
    head = "".join(f'<th class="{kind}">{_breakable(name)}</th>' for name, kind in zip(names, kinds, strict=True))
    begins = ["<td>" if kind == "number" else f'<td class="{kind}">' for kind in kinds]  # most of a long table's bytes
    body = []
    for line in lines:
        cells = "".join(f"{begin}{escape(cell)}</td>" for begin, cell in zip(begins, line.cells, strict=True))
        body.append(f'<tr class="{escape(line.state)}">{cells}</tr>')
        if line.remark:
            remark = f'<td></td><td colspan="{len(names) - 1}">{escape(line.remark)}</td>'
            body.append(f'<tr class="reason">{remark}</tr>')
    rows = "\n".join(body)
    return (
        f'<div class="scroll"><table class="trials{" searched" * searched}"><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>"
    )


def _breakable(name: str) -> str:
    return escape(name).replace("_", "_<wbr>")


def pairs(values: dict[str, Any]) -> str:
    """Names and values, a line each; a value of several lines keeps them."""
    lines = []
    for name, value in values.items():
        text = escape(str(value))
        lines.append(f"<tr><th>{escape(name)}</th><td>{f'<pre>{text}</pre>' if chr(10) in text else text}</td></tr>")
    return f'<table class="asked"><tbody>\n{chr(10).join(lines)}\n</tbody></table>'
