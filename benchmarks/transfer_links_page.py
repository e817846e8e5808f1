"""The page about slow, long and lossy links, from the report of transfer_links.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["write_page"]


def write_page(report: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([*_head(report), *_links(report["links"]), *_company(report["company"])]) + "\n")


def _head(report: dict[str, Any]) -> list[str]:
    machine = report["machine"]
    return [
        "# Slow, long and lossy links",
        "",
        f"Made by `{report['command']} --output benchmarks/results/transfer_links.json "
        "--page docs/reference/links.md`, which makes the links in network namespaces of one machine: rates without "
        "delay by Linux' token bucket on virtual Ethernet, delay and loss by the lab's wire.",
        "",
        f"This run: {machine['cpu']}, {machine['cpus']} cores, Linux {machine['kernel']}, Python {machine['python']}; "
        f"the system's congestion control is {machine['congestion_control']}; load before it "
        f"{machine['load_before']:.1f}. Sender, receiver and, where there is delay, the wire share the cores.",
        "",
    ]


def _links(links: dict[str, Any]) -> list[str]:
    if not links:
        return []
    lines = [
        "## How much of the link is used",
        "",
        "*RAW* is a C program that maps the file and sends it, without encryption. *Possible* is what TCP can carry of "
        "content on the link. Time counts from the moment the content is due to the moment all of it is where it stays "
        "(of midair: durable, and in the journal), slow start with it.",
        "",
        "| link | content | possible, Mbit/s | RAW | midair | midair of possible | midair to RAW (medians / best) |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, link in links.items():
        control, to_raw = link["congestion_control"], link["midair_to_raw"]
        lines.append(
            f"| {name} | {link['mib']} MiB | {link['goodput_possible_mbit_s']:.1f} "
            f"| {_spread(link['mbit_s']['raw'])} {control['raw']} | {_spread(link['mbit_s']['midair'])} "
            f"{control['midair']} | {link['of_possible']['midair']:.3f} "
            f"| {to_raw['medians']:.3f} / {to_raw['best']:.3f} |"
        )
    lines += [
        "",
        "Mbit/s, median [lowest..highest], and the congestion control that ran.",
        "",
        "## How long a small message waits",
        "",
        "Milliseconds from handing it over to its being received, half a round trip with it, in the middle of bulk "
        "data: as midair sends that, and as it would be with records of 1 MiB and all the kernel takes.",
        "",
        "| link | midair, median / longest | without, median / longest |",
        "|---|---|---|",
    ]
    for name, link in links.items():
        ours, plain = link["small_message_ms"].values()
        lines.append(f"| {name} | {ours['median']} / {ours['max']} | {plain['median']} / {plain['max']} |")
    return [*lines, ""]


def _company(company: dict[str, Any]) -> list[str]:
    if not company:
        return []
    lines = [
        "## Beside another flow",
        "",
        "One link of 100 Mbit/s and 40 ms, whose queue holds what is under way on it (another 40 ms). A TCP flow "
        "(iperf3, with the congestion control that is named) has it alone until somebody joins; 14 s count, after 4 s "
        "to settle. *Jain* is 1 where both have the same, 0.5 where one has all. The round trip is that of datagrams "
        "which pass the same queue, in milliseconds, median / 95 %.",
        "",
        "| who, and who joins | the other, Mbit/s | who joined, Mbit/s | its share | Jain | round trip before | then |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, case in company.items():
        before = case.get("round_trip_ms_before")
        lines.append(
            f"| {name} | {case.get('other_mbit_s', '')} | {case['joined_mbit_s']} | {case.get('share', '')} "
            f"| {case.get('jain', '')} | {_trips(before) if before else ''} | {_trips(case['round_trip_ms'])} |"
        )
    return [
        *lines,
        "",
        "What `--background` does, and which congestion control is used when, is in [options](options.md); why, in "
        "[ADR 17](../adr/0017-congestion-control.md).",
    ]


def _spread(values: dict[str, float]) -> str:
    return f"{values['median']:.1f} [{values['min']:.1f}..{values['max']:.1f}]"


def _trips(values: dict[str, float]) -> str:
    return f"{values['median']} / {values['p95']}"
