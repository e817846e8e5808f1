"""``midair lab population``: how many pairs of a whole population get through."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import click

from midair.cli.ending import fail
from midair.errors import UsageError

if TYPE_CHECKING:
    from midair.lab.population import Mix, Tally

__all__ = ["population_command"]

_TROUBLES_SHOWN = 8


def population_command(mix_name: str | None, *, pairs: int, seed: int, as_json: bool, shares: bool) -> int:
    """Plays ``pairs`` random pairs of the population, by midair's technique and by plain simultaneous open."""
    from midair.lab.population import MIXES, play_population
    from midair.trials.plays import midair_play, plain_play

    if mix_name is not None and mix_name not in MIXES:
        return fail(UsageError(f"there is no population {mix_name!r}", hint=f"There are {', '.join(MIXES)}."))
    mixes = [MIXES[mix_name]] if mix_name else list(MIXES.values())
    if shares:
        for mix in mixes:
            _show_shares(mix)
        return 0
    workers = os.cpu_count() or 1
    plays = {"midair": midair_play, "plain simultaneous open": plain_play}
    for number, mix in enumerate(mixes):
        tallies = play_population(mix, plays, pairs=pairs, seed=seed, workers=workers)
        if as_json:
            click.echo(json.dumps(_as_json(mix, tallies, seed)))
            continue
        if number:
            click.echo()
        _show(mix, tallies, pairs, seed)
    return 0


def _show(mix: Mix, tallies: dict[str, Tally], pairs: int, seed: int) -> None:
    from midair.lab.population import Ending

    click.echo(f"{mix.title} ({mix.name}): {pairs:,} pairs in the simulated net, seed {seed}\n")
    click.echo(f"{'':24}{'direct':>16}{'relayed':>10}{'failed':>9}{'median':>9}")
    for name, tally in tallies.items():
        direct = f"{tally.percent(Ending.DIRECT):.1f} % ± {tally.margin(Ending.DIRECT):.1f}"
        relayed, failed = (f"{tally.percent(ending):.1f} %" for ending in (Ending.RELAYED, Ending.FAILED))
        click.echo(f"{name:24}{direct:>16}{relayed:>10}{failed:>9}{tally.median_seconds:>7.2f} s")
    troubles = tallies["midair"].troubles
    if troubles:
        click.echo("\nNot direct with midair, most frequent first:")
        for topology, count in troubles[:_TROUBLES_SHOWN]:
            click.echo(f"  {count:>5}  {topology}")
        if len(troubles) > _TROUBLES_SHOWN:
            rest = sum(count for _, count in troubles[_TROUBLES_SHOWN:])
            click.echo(f"  {rest:>5}  in {len(troubles) - _TROUBLES_SHOWN} other kinds of pairs")


def _show_shares(mix: Mix) -> None:
    click.echo(f"{mix.title} ({mix.name})\n")
    for each in mix.classes:
        click.echo(f"{each.percent:>6g} %  {each.side:24} {each.source}")
    click.echo(f"{mix.ipv6_percent:>6g} %  {'with IPv6':24} {mix.ipv6_source}")
    click.echo(f"{mix.same_lan_percent:>6g} %  {'of pairs on one LAN':24} {mix.same_lan_source}\n")


def _as_json(mix: Mix, tallies: dict[str, Tally], seed: int) -> dict[str, Any]:
    return {
        "mix": mix.name,
        "seed": seed,
        "shares": [{"side": each.side, "percent": each.percent, "source": each.source} for each in mix.classes],
        "ipv6_percent": mix.ipv6_percent,
        "same_lan_percent": mix.same_lan_percent,
        "results": {
            name: {
                "pairs": tally.pairs,
                "endings": {ending.value: count for ending, count in tally.endings.items()},
                "median_seconds": round(tally.median_seconds, 3),
                "not_direct": dict(tally.troubles),
            }
            for name, tally in tallies.items()
        },
    }
