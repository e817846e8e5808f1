"""Playing: in the simulated net, and some of it on the wire."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from matrix_samples import IMPOSSIBLE, LUCKY, POSSIBLE, Fixed, cell, direct, failed

from midair.lab.capture import read_capture
from midair.lab.matrix import PlainContender, Verdict, play_matrix, quick_cells
from midair.lab.matrix.evidence import folder_name

if TYPE_CHECKING:
    from pathlib import Path

    from midair.lab.ceiling import Ceiling
    from midair.lab.matrix import Attempt, Cell


def test_each_try_of_each_cell_is_played_with_a_seed_of_its_own() -> None:
    cells = [cell("drop x rst"), cell("drop x drop", 0.1)]
    results = list(play_matrix(cells, Fixed(direct()), tries=3, seed=10, simulated=True))
    assert [(each.topology, each.tries, each.successes, each.syns, each.seed) for each in results] == [
        ("drop x rst", 3, 3, 11.0, 10),
        ("drop x drop", 3, 3, 11.0, 10),
    ]


@pytest.mark.parametrize(
    ("attempt", "ceiling", "kept"),
    [
        (failed(), POSSIBLE, True),
        (direct(), POSSIBLE, False),
        (direct(), IMPOSSIBLE, True),
        (direct(), LUCKY, False),
        (failed(), IMPOSSIBLE, False),
    ],
)
def test_evidence_is_kept_of_what_came_out_otherwise_than_it_had_to(
    attempt: Attempt, ceiling: Ceiling, kept: bool, tmp_path: Path
) -> None:
    contender = Fixed(attempt, ceiling)
    (result,) = play_matrix([cell("drop x rst", 0.1)], contender, simulated=True, evidence=lambda: tmp_path)
    folder = tmp_path / "drop_x_rst_100ms"
    assert folder.exists() == kept
    assert result.evidence == (str(folder) if kept else "")
    if kept:
        text = (folder / "cell.txt").read_text("utf-8")
        assert "again     midair lab matrix --cells 'drop x rst' --skew 100 --seed 0" in text
        assert json.loads((folder / "a.json").read_text("utf-8")) == json.loads(json.dumps(attempt.stories[0]))


def test_folders_of_evidence_have_names_that_need_no_quotes() -> None:
    name = folder_name(cell("(drop,opening=7 + none) > carrier with ipv6", 0.1))
    assert name == "drop,opening=7.0_+_none_carrier_with_ipv6_100ms"
    assert len(folder_name(cell(" x ".join([">".join(["connection-dependent"] * 4)] * 2)))) <= 100


def test_the_plain_puncher_in_the_simulated_net_meets_its_ceiling_in_half_of_the_quick_matrix() -> None:
    cells = [each for each in quick_cells() if not each.is_kernel][::2]
    results = list(play_matrix(cells, PlainContender(), seed=3, simulated=True))
    assert [each.name for each in results] == list(map(str, cells))
    assert [each for each in results if not Verdict(each.verdict).is_fine] == []
    assert {each.successes for each in results} == {0, 1}


def test_a_linux_router_cannot_be_simulated() -> None:
    with pytest.raises(ValueError, match="is a Linux router"):
        list(play_matrix([cell("kernel:cone x drop")], PlainContender(), simulated=True))


@pytest.mark.lab
@pytest.mark.timeout(180)
def test_the_plain_puncher_on_the_wire_meets_its_ceiling_in_the_whole_quick_matrix() -> None:
    """Over 200 pairs, Linux routers among them, at two skews. A busy computer can be late in single cells: those are
    played again alone, and it is enough that they come out as computed once."""
    cells = quick_cells()
    assert len({each.topology for each in cells}) >= 200
    assert sum(each.is_kernel for each in cells) >= 60
    results = list(play_matrix(cells, PlainContender(), seed=4))
    assert len(results) == len(cells)
    by_name = {str(each): each for each in cells}
    surprising = [each.name for each in results if not Verdict(each.verdict).is_fine]
    assert len(surprising) <= len(cells) // 20
    for name in surprising:
        again = [next(play_matrix([by_name[name]], PlainContender(), seed=seed)) for seed in (5, 6, 7)]
        assert any(Verdict(each.verdict).is_fine for each in again), again
    assert 0.5 < sum(each.successes for each in results) / len(results) < 0.8


@pytest.mark.lab
def test_a_surprise_on_the_wire_leaves_packets_tables_and_stories(tmp_path: Path) -> None:
    cells = [cell("drop x symmetric"), cell("kernel:masquerade-drop x drop>carrier"), cell("drop x drop")]

    class Mistaken(PlainContender):
        """Computes that nothing can work."""

        def ceiling(self, cell: Cell) -> Ceiling:
            return IMPOSSIBLE

    results = list(play_matrix(cells, Mistaken(), evidence=lambda: tmp_path))
    assert [each.verdict for each in results] == [Verdict.UNREACHABLE, Verdict.ABOVE, Verdict.ABOVE]
    folder = tmp_path / "kernel_masquerade-drop_x_drop_carrier_0ms"
    assert {each.name for each in tmp_path.iterdir()} == {folder.name, "drop_x_drop_0ms"}
    with open(folder / "wire.pcapng", "rb") as file:
        assert {record.node for record in read_capture(file)} == {"a1", "b1", "a1.1", "b1.1", "b1.2"}
    story = (folder / "syns.txt").read_text("utf-8")
    assert "a1:0 sent      SYN" in story
    assert "SYN-ACK" in story
    assert "TCP" in (folder / "b1.2.table").read_text("utf-8")
    assert (folder / "a1.1.table").exists()
    assert json.loads((folder / "b.json").read_text("utf-8"))["notes"][0]["what"] == "dialled"
