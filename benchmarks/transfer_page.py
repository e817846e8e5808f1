"""The page of the docs about speed, and its picture, made from the results of one run of the benchmark."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

__all__ = ["write_page"]

_WIDTH, _BAR, _LEFT = 720, 22, 190


def write_page(report: dict[str, Any], page: Path) -> None:
    """``page``, and the picture of the first size beside it."""
    page.parent.mkdir(parents=True, exist_ok=True)
    picture = page.with_suffix(".svg")
    first = next(iter(report["sizes"]))
    picture.write_text(draw(report["sizes"][first], int(first)))
    machine = report["machine"]
    parts = [
        "# Speed",
        f"Made by `{report['command']}`, which runs every program below in turn on one machine, over loopback, and"
        " writes `benchmarks/results/transfer.json` and this page; `make bench` does it with larger files too. What to"
        " take from it are the ratios: speeds belong to the machine, and to the minute.",
        f"This run: {machine['cpu']}, {machine['cpus']} cores, Linux {machine['kernel']}, congestion control"
        f" **{machine['congestion_control']}** for all programs, Python {machine['python']},"
        f" {machine['midairs_openssl']}"
        f" in midair, which chose {(machine['midairs_cipher'] or 'no cipher').replace('_', '-')}; load before it"
        f" {machine['load_before']:.1f}.",
        f"![speed of each program, whole command and content flowing]({picture.name})",
        *(table(summaries, int(mib), report["start"].get("one_mib")) for mib, summaries in report["sizes"].items()),
        "*whole*: from the start of the first command to the exit of the last. *flowing*: from the moment the content"
        " is due to the moment all of it is where it stays (of midair: durable, and in the journal). Both: MB/s, median"
        " [lowest..highest]. *x RAW*, *x TLS*: flowing, as ratio of the medians / of the best. *midair is*: how many"
        " times as fast midair's whole commands are, the same way. CPU: seconds a GiB, whole commands"
        " (of midair also less what 1 MiB takes). Memory: private"
        " resident MiB at the highest (RssAnon + RssShmem).",
        "Programs:\n\n"
        + "\n".join(
            f"* **{entry['name']}**: {entry['what']}" + ("" if entry["writes_in_place"] else "; writes a new file")
            for entry in report["sizes"][first].values()
        ),
        "The source is in the page cache. The destination is memory that was touched before, where a program writes in"
        " place. midair never does: so it finds an unfinished transfer of which nothing was durable yet, and goes on in"
        " its memory; the row *new file* is without that.",
        start(report),
    ]
    page.write_text("\n\n".join(parts) + "\n")


def table(summaries: dict[str, Any], mib: int, one_mib: dict[str, float] | None) -> str:
    lines = [
        f"## {mib / 1024:g} GiB, {len(next(iter(summaries.values()))['runs'])} runs of each",
        "",
        "| | whole | flowing | x RAW | x TLS | midair is | CPU send / receive | memory send / receive |",
        "|---|---|---|---|---|---|---|---|",
    ]
    ours = summaries.get("midair")
    for word, entry in summaries.items():
        flow = entry["ratio_flow"]
        cells = [
            entry["name"],
            spread(entry["whole_mb_s"]),
            spread(entry["flow_mb_s"]),
            both(flow.get("raw")),
            both(flow.get("tls")),
            both(ours["ratio_whole"].get(word)) if ours else "",
            cpu(entry, mib, one_mib),
            " / ".join(memory(entry["private_mib"][side]) for side in ("send", "receive")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cpu(entry: dict[str, Any], mib: int, one_mib: dict[str, float] | None) -> str:
    """Of midair also what is left without what a transfer of 1 MiB takes."""
    whole = entry["cpu_s_gib"]
    shown = " / ".join(f"{whole[side]:.2f}" for side in ("send", "receive"))
    if one_mib is None or not entry["name"].startswith("midair"):
        return shown
    rest = [whole[side] - one_mib[f"cpu_{side}_s"] * 1024 / mib for side in ("send", "receive")]
    return f"{shown} ({' / '.join(f'{seconds:.2f}' for seconds in rest)})"


def start(report: dict[str, Any]) -> str:
    measured = report["start"]
    lines = [
        "## Start",
        "",
        f"* `midair --version` takes {measured['midair_version_s'] * 1000:.0f} ms, `python -c pass`"
        f" {measured['python_c_pass_s'] * 1000:.0f} ms: {both(measured['ratio'])} times (medians / best).",
    ]
    one = measured.get("one_mib")
    if one:
        lines += [
            f"* `midair send` shows the code {one['code_shown_s'] * 1000:.0f} ms after its start, while"
            " `midair receive` starts on the same cores.",
            f"* From the choice of a path to 1 MiB being durable: {one['path_to_durable_s'] * 1000:.0f} ms.",
            f"* Both commands for 1 MiB take {one['whole_s']:.2f} s, {one['cpu_send_s']:.2f} and"
            f" {one['cpu_receive_s']:.2f} s of CPU; that is in *whole* and in *CPU* above.",
        ]
    return "\n".join(lines)


def spread(speed: dict[str, float] | None) -> str:
    return "" if speed is None else f"{speed['median']:.0f} [{speed['min']:.0f}..{speed['max']:.0f}]"


def both(ratio: dict[str, float] | None) -> str:
    return "" if ratio is None else f"{ratio['medians']:.2f} / {ratio['best']:.2f}"


def memory(mib: float | None) -> str:
    return "" if mib is None else f"{mib:.0f}"


def draw(summaries: dict[str, Any], mib: int) -> str:
    """A bar for each program: the whole command, and lighter behind it what flows."""
    fastest = max(
        speed["median"] for e in summaries.values() for speed in (e["whole_mb_s"], e["flow_mb_s"]) if speed is not None
    )
    scale = (_WIDTH - _LEFT - 70) / fastest
    rows = []
    for number, entry in enumerate(sorted(summaries.values(), key=lambda e: -e["whole_mb_s"]["median"])):
        top = 34 + number * (_BAR + 8)
        whole, flow = entry["whole_mb_s"]["median"], entry["flow_mb_s"] and entry["flow_mb_s"]["median"]
        colour = "#b4552d" if entry["name"].startswith("midair") else "#5b7083"
        rows.append(f'<text x="{_LEFT - 8}" y="{top + 15}" text-anchor="end">{escape(entry["name"])}</text>')
        if flow:
            rows.append(bar(top, flow * scale, f'{colour}" opacity="0.35'))
        rows.append(bar(top, whole * scale, colour))
        shown = f"{whole:.0f}" + (f" ({flow:.0f})" if flow else "")
        rows.append(f'<text x="{_LEFT + max(whole, flow or 0) * scale + 6:.0f}" y="{top + 15}">{shown}</text>')
    height = 44 + len(summaries) * (_BAR + 8)
    title = f"{mib / 1024:g} GiB over loopback, MB/s, medians: whole command (content flowing)"
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
            ' font-family="sans-serif" font-size="13">',
            f'<rect width="{_WIDTH}" height="{height}" fill="white"/>',
            f'<text x="8" y="20" font-weight="bold">{escape(title)}</text>',
            *rows,
            "</svg>\n",
        ]
    )


def bar(top: int, width: float, colour: str) -> str:
    return f'<rect x="{_LEFT}" y="{top}" width="{width:.0f}" height="{_BAR}" fill="{colour}"/>'
