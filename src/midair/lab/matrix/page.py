"""The results as one HTML page that needs nothing else: squares of cells, and what is known of the one that is pointed
at, focused or tapped. Pure.
"""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Final

from midair.lab.matrix.colours import STYLE
from midair.lab.matrix.layout import Look, lay_out, look_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from midair.lab.matrix.layout import Block, Section
    from midair.lab.matrix.result import CellResult, Summary

__all__ = ["page"]

_MOST_ROOMY: Final = 24
"""Sides that a square may have before its cells are drawn smaller."""


def page(results: Sequence[CellResult], summary: Summary) -> str:
    """Everything is in it; it asks for nothing on the net."""
    numbers = {id(result): number for number, result in enumerate(results)}
    looks = {look_of(result) for result in results}
    return _FRAME.format(
        style=STYLE + _STYLE + "".join(f".{look}{{background:var(--{look});color:var(--on-{look})}}" for look in Look),
        title=escape(f"Who gets through: {summary.contender} in {summary.cells} cells"),
        heading=escape(f"Who gets through: {summary.contender}"),
        lead=escape(_lead(summary)),
        figures="".join(_figures(summary)),
        legend="".join(
            f'<li><span class="c {look}" aria-hidden="true">{look.sign}</span>{escape(look.meaning)}</li>'
            for look in Look
            if look in looks
        ),
        alarms="".join(_alarms(results, numbers)),
        sections="".join(_section(section, numbers) for section in lay_out(results)),
        data=json.dumps([_details(result) for result in results], ensure_ascii=False)
        .replace("&", "\\u0026")
        .replace("<", "\\u003c"),
        script=_SCRIPT,
    )


def _lead(summary: Summary) -> str:
    how = "in the simulated net" if summary.mode == "simulated" else "on the wire"
    return (
        f"{summary.tries} tries of {summary.contender} {how}, in {summary.seconds:.0f} s, seed {summary.seed}. "
        "A cell is a pair of hosts, each behind what its row or its column says; a square shows each pair twice. The "
        "ceiling of a cell is the best that can be reached with the contender's techniques."
    )


def _figures(summary: Summary) -> Iterator[str]:
    share = 100 * summary.successes / summary.tries
    figures = [
        (f"{share:.3g} %", "of tries direct"),
        (f"{100 * summary.ceiling:.3g} %", "possible"),
        (str(summary.below), "cells below their ceiling"),
        (str(summary.above), "above"),
        (str(summary.unreachable), "out of reach, as computed"),
    ]
    if summary.p50 is not None:
        figures.append((f"{1000 * summary.p50:.0f} ms", "median time"))
    for figure, meaning in figures:
        yield f"<div><dt>{escape(meaning)}</dt><dd>{escape(figure)}</dd></div>"


def _alarms(results: Sequence[CellResult], numbers: Mapping[int, int]) -> Iterator[str]:
    alarming = [result for result in results if look_of(result) in (Look.BELOW, Look.ABOVE)]
    if alarming:
        yield '<section><h2>To be looked into</h2><div class="tiles">'
        yield from (_tile(result, numbers, with_skew=True) for result in alarming)
        yield "</div></section>"


def _section(section: Section, numbers: Mapping[int, int]) -> str:
    parts = [f"<section><h2>{escape(section.title)}</h2>"]
    parts.append('<div class="squares">')
    parts += [_square(block, section, numbers) for block in section.blocks]
    parts.append("</div>")
    if section.alone:
        parts.append('<div class="tiles">')
        parts += [_tile(result, numbers) for result in section.alone]
        parts.append("</div>")
    parts.append("</section>")
    return "".join(parts)


def _square(block: Block, section: Section, numbers: Mapping[int, int]) -> str:
    columns = "".join(f'<th scope="col"><span>{escape(side)}</span></th>' for side in block.sides)
    rows = "".join(
        f'<tr><th scope="row">{escape(row)}</th>'
        + "".join(
            f"<td>{_button(block.cells[row, column], numbers, css='c', content='')}</td>" for column in block.sides
        )
        + "</tr>"
        for row in block.sides
    )
    label = escape(f"{section.title}: {len(block.sides)} sides with one another")
    css = "dense" if len(block.sides) > _MOST_ROOMY else ""
    return (
        f'<div class="scroll {css}" tabindex="-1"><table aria-label="{label}">'
        f"<thead><tr><td></td>{columns}</tr></thead><tbody>{rows}</tbody></table></div>"
    )


def _tile(result: CellResult, numbers: Mapping[int, int], *, with_skew: bool = False) -> str:
    name = result.name if with_skew else result.topology
    return _button(result, numbers, css="tile", content=f"<b>{escape(name)}</b>")


def _button(result: CellResult, numbers: Mapping[int, int], *, css: str, content: str) -> str:
    look = look_of(result)
    label = escape(f"{result.name}: {look.meaning}", quote=True)
    sign = f'<i class="{look}" aria-hidden="true">{look.sign}</i>' if content else look.sign
    classes = css if content else f"{css} {look}"
    return (
        f'<button type="button" class="{classes}" data-n="{numbers[id(result)]}" aria-label="{label}">'
        f"{sign}{content}</button>"
    )


def _details(result: CellResult) -> dict[str, object]:
    """What the page shows of a cell, in words."""
    times = "" if result.p50 is None or result.p95 is None else f"{_ms(result.p50)} / {_ms(result.p95)}"
    late = "together" if result.skew == 0 else f"the second {1000 * result.skew:g} ms later"
    rows = [
        (
            "result",
            f"{result.successes} of {result.tries} direct" + (f", {result.relayed} relayed" * bool(result.relayed)),
        ),
        ("ceiling", f"{100 * result.ceiling:.3g} %" + (f" by {result.technique}" * bool(result.technique))),
        ("start", late),
        ("time (median / p95)", times),
        ("SYNs", f"{result.syns:g}"),
        ("opened by", ", ".join(f"{how} ({count})" for how, count in result.how.items())),
        ("evidence", result.evidence),
    ]
    return {
        "name": result.topology,
        "look": look_of(result).value,
        "verdict": result.verdict,
        "rows": [row for row in rows if row[1]],
        "why": result.reasoning,
        "failures": [f"{reason} ({count})" for reason, count in result.reasons.items()],
    }


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:.0f} ms"


_STYLE: Final = """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
main{max-width:1480px;margin:0 auto;padding:24px 20px 48px;display:grid;gap:0 32px;
grid-template-columns:minmax(0,1fr) 320px}
header{grid-column:1/-1}
h1{font-size:1.6rem;margin:0 0 6px;letter-spacing:-.01em}
h2{font-size:1.05rem;margin:28px 0 8px}
p.lead{margin:0 0 16px;color:var(--soft);max-width:76ch}
dl.figures{display:flex;flex-wrap:wrap;gap:6px 28px;margin:0 0 14px}
dl.figures div{display:flex;flex-direction:column-reverse}
dl.figures dt{color:var(--soft);font-size:.85rem}
dl.figures dd{margin:0;font-size:1.35rem;font-weight:600;font-variant-numeric:tabular-nums}
ul.legend{list-style:none;margin:0;padding:0;display:flex;flex-wrap:wrap;gap:6px 18px;color:var(--soft)}
ul.legend li{display:flex;align-items:center;gap:7px;font-size:.88rem}
.squares{display:flex;flex-wrap:wrap;align-items:flex-end;gap:12px 40px}
.scroll{overflow-x:auto;margin:0 -4px;padding:4px;max-width:calc(100% + 8px)}
table{border-collapse:separate;border-spacing:2px}
th{font-weight:400;font-size:.8rem;text-align:left;white-space:nowrap}
th[scope=row]{position:sticky;left:-4px;background:var(--paper);padding:0 8px 0 4px;z-index:1}
th[scope=col]{vertical-align:bottom;padding:0;height:1px}
th[scope=col] span{writing-mode:vertical-rl;transform:rotate(180deg);display:block;padding:4px 0;
width:26px;line-height:26px}
td{padding:0}
button{font:inherit;color:inherit;border:0;cursor:pointer;background:none}
.c{display:grid;place-items:center;width:26px;height:26px;border-radius:5px;font-size:12px;padding:0}
.dense table{border-spacing:1px}
.dense th{font-size:.7rem;line-height:1}
.dense .c{width:16px;height:16px;border-radius:3px;font-size:8px}
.dense th[scope=col] span{width:16px;line-height:16px}
ul.legend .c{width:20px;height:20px;font-size:11px}
button:focus-visible,button.on{outline:2px solid var(--focus);outline-offset:1px}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:2px 14px;margin-top:14px}
.tile{display:flex;align-items:center;gap:8px;border-radius:6px;padding:2px 6px 2px 2px;font-size:.82rem;
text-align:left}
.tile:hover{background:var(--card)}
.tile b{font-weight:400;overflow-wrap:anywhere;line-height:1.25}
.tile i{font-style:normal;display:grid;place-items:center;width:22px;height:22px;border-radius:4px;font-size:11px;
flex:none}
aside{position:sticky;top:20px;align-self:start;margin-top:28px;background:var(--card);border:1px solid var(--line);
border-radius:10px;padding:14px 16px;font-size:.9rem;max-height:calc(100vh - 40px);overflow:auto}
aside h2{margin:0 0 2px;font-size:1rem;overflow-wrap:anywhere}
aside .verdict{display:inline-block;border-radius:5px;padding:1px 8px;margin:4px 0 8px;font-size:.82rem}
aside dl{display:grid;grid-template-columns:auto 1fr;gap:3px 12px;margin:0 0 8px}
aside dt{color:var(--soft)}
aside dd{margin:0;overflow-wrap:anywhere}
aside p{margin:8px 0 0}
aside ul{margin:4px 0 0;padding-left:18px}
#close{display:none}
@media(max-width:900px){
main{display:block;padding:16px 14px 60vh}
aside{position:fixed;inset:auto 0 0;margin:0;border-radius:14px 14px 0 0;border-width:1px 0 0;max-height:52vh;
padding:12px 16px 18px;box-shadow:0 -6px 24px rgb(0 0 0/.18);z-index:3}
aside:not(.open){display:none}
#close{display:block;float:right;font-size:1.3rem;line-height:1;padding:4px 8px;margin:-4px -8px 0 8px}
button[data-n]{scroll-margin-bottom:54vh}
.tile{min-height:36px}
.scroll:not(.dense) .c{width:30px;height:30px}
.scroll:not(.dense) th[scope=col] span{width:30px;line-height:30px}
}
"""

_SCRIPT: Final = """
const cells=JSON.parse(document.getElementById("data").textContent),box=document.getElementById("more");
const make=(tag,text,css)=>{
  const node=document.createElement(tag);node.textContent=text;if(css)node.className=css;return node};
let pinned=null;
function show(button){
  const cell=cells[button.dataset.n],list=document.createElement("dl");
  for(const [name,value] of cell.rows)list.append(make("dt",name),make("dd",value));
  const body=[make("h2",cell.name),make("span",cell.verdict,"verdict "+cell.look),list];
  if(cell.failures.length){const failures=document.createElement("ul");
    for(const failure of cell.failures)failures.append(make("li",failure));
    body.push(make("strong","Seen"),failures)}
  body.push(make("p",cell.why));
  box.querySelector("#body").replaceChildren(...body);
  document.querySelectorAll("button.on").forEach(other=>other.classList.remove("on"));
  button.classList.add("on");
}
const cellOf=event=>event.target.closest&&event.target.closest("button[data-n]");
const wide=matchMedia("(min-width:901px)");
document.addEventListener("pointerover",event=>{const b=cellOf(event);if(b&&wide.matches&&!pinned)show(b)});
document.addEventListener("focusin",event=>{const b=cellOf(event);if(b&&!pinned&&b.matches(":focus-visible"))show(b)});
document.addEventListener("click",event=>{const b=cellOf(event);if(!b)return;
  pinned=pinned===b&&wide.matches?null:b;show(b);box.classList.add("open");b.scrollIntoView({block:"nearest"})});
document.addEventListener("keydown",event=>{if(event.key==="Escape")close_()});
function close_(){pinned=null;box.classList.remove("open");
  document.querySelectorAll("button.on").forEach(other=>other.classList.remove("on"))}
document.getElementById("close").addEventListener("click",close_);
"""

_FRAME: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
<header>
<h1>{heading}</h1>
<p class="lead">{lead}</p>
<dl class="figures">{figures}</dl>
<ul class="legend">{legend}</ul>
</header>
<div>{alarms}{sections}</div>
<aside id="more" aria-live="polite"><button type="button" id="close" aria-label="Close">×</button>
<div id="body"><p>Point at a cell, or tap it: times, technique and reasons come here.</p></div></aside>
</main>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""
