"""``--cc`` and ``--background``, by the real commands over loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from midair.cli.policies import find_congestion_control, gives_way
from midair.errors import UsageError
from midair.port import congestion_controls
from support import midair


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The configuration file, which is not there yet; nothing else is set."""
    for name in ("CC", "BACKGROUND"):
        monkeypatch.delenv(f"MIDAIR_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "midair").mkdir()
    return tmp_path / "midair" / "config.toml"


def send(server: str, source: Path, folder: Path, *options: str) -> list[dict[str, Any]]:
    """What the sender tells of the connections it sends over."""
    with midair("send", "--json", "--server", server, *options, source) as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-o", folder, "-y") as receiver:
            assert (receiver.wait(), sender.wait()) == (0, 0), receiver.errors + sender.errors
            assert receiver.of("tuned") == []
    assert (folder / source.name).read_bytes() == source.read_bytes()
    return sender.of("tuned")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 4096)
    return path


def test_the_chosen_one_runs_and_is_told(server: str, source: Path, folder: Path) -> None:
    for told in send(server, source, folder, "--direct-only", "--cc", "reno"):
        assert (told["congestion_control"], told["because"], told["background"]) == ("reno", "chosen", False)
        assert told["remote"]


def test_in_the_background_it_arrives_as_well(server: str, source: Path, folder: Path) -> None:
    told = send(server, source, folder, "--background")
    assert told
    assert all(each["background"] for each in told)


def test_one_that_is_not_there_is_a_line_that_lists_what_is_and_exit_code_2(source: Path) -> None:
    with midair("send", "--json", "--cc", "nothing", source) as command:
        assert command.wait() == 2
    assert command.of("code") == []
    assert "--cc: there is no congestion control 'nothing' here" in command.errors
    assert all(name in command.errors for name in congestion_controls())


def test_the_command_line_wins_then_the_environment_then_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (find_congestion_control(None), gives_way(None)) == (None, False)
    file.write_text('cc = "nothing"\nbackground = true\n')
    with pytest.raises(UsageError, match=r"config\.toml: cc: there is no"):
        find_congestion_control(None)
    assert gives_way(None)
    assert not gives_way(False)
    monkeypatch.setenv("MIDAIR_CC", "none-such")
    monkeypatch.setenv("MIDAIR_BACKGROUND", "no")
    with pytest.raises(UsageError, match=r"^MIDAIR_CC: there is no"):
        find_congestion_control(None)
    assert not gives_way(None)
    assert find_congestion_control("reno") == "reno"
    assert gives_way(True)


@pytest.mark.parametrize("text", ["cc = 3", "background = 1", 'background = "yes"'])
def test_a_file_that_says_it_wrongly_is_named(text: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(UsageError, match=r"config\.toml"):
        gives_way(None)
