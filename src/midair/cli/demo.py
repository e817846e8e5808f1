"""``midair demo`` and ``midair lab demo``: the main job, with the real commands, told step by step.

Three processes, as three people would run them: ``midair serve``, ``midair send`` and ``midair receive``, each in its
own host of the lab. The last line is one JSON object; everything before it is for people.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from midair.cli.ending import fail
from midair.cli.lab import opened_lab
from midair.cli.output import size_text
from midair.cli.settings import AS_IF_NOTHING_WAS_SET
from midair.errors import MidairError
from midair.lab import DESCRIPTIONS, Lab
from midair.lab.capture import read_capture
from midair.lab.network import Direction
from midair.lab.unprivileged import available_somehow
from midair.lab.wire.tun import can_open_tun

__all__ = ["demo_command", "lab_demo_command"]

_SECONDS = 120.0
"""What the whole demonstration may take."""
_MIB = 1 << 20
_DELAY = 0.01
"""One way between the two hosts: enough for SYNs to cross, and the kernel's windows do not limit the rate."""


def demo_command(*, as_json: bool, mebibytes: int) -> int:
    """Through two different NATs where the lab can run, else over loopback."""
    lack = available_somehow()
    if lack is None:
        return lab_demo_command("drop", "rst", same_lan=False, as_json=as_json, mebibytes=mebibytes)
    say = _speaker(as_json)
    say(f"Over loopback, because {lack}.")
    say("So this cannot show: NATs, SYNs that open them, two different networks.")
    return _ending(lambda: _show(_loopback(), say, mebibytes, "none", "none"))


def lab_demo_command(nat_a: str, nat_b: str, *, same_lan: bool, as_json: bool, mebibytes: int) -> int:
    """From behind ``nat_a`` to behind ``nat_b``: chains of boxes, as the text form of a topology has them."""
    say = _speaker(as_json)
    topology = f"(none + none) > {nat_a}" if same_lan else f"{nat_a} x {nat_b}"
    boxes = {"a": nat_a, "b": nat_a if same_lan else nat_b}

    def show() -> dict[str, Any]:
        with (
            opened_lab(topology, delay=_DELAY, vnet=can_open_tun()) as lab,
            tempfile.TemporaryDirectory(prefix="midair-demo-") as folder,
        ):
            for who, host in (("Sender  ", lab.a), ("Receiver", lab.b)):
                what = DESCRIPTIONS.get(boxes[host.name], boxes[host.name])
                say(f"{who} {host.address:15} behind {host.outside:15} {what}")
            capture = Path(folder, "opening.pcapng")
            with contextlib.ExitStack() as recording:
                recording.enter_context(lab.capture(capture))
                listen = f"{lab.server.address}:7420"
                stage = _Stage(listen, lab.server.popen, lab.a.popen, lab.b.popen, recording.close)
                result = _show(stage, say, mebibytes, boxes["a"], boxes["b"])
            for line in _syn_counts(lab, capture):
                say(line)
            return result

    return _ending(show)


def _syn_counts(lab: Lab, capture: Path) -> Iterator[str]:
    """What each host's outermost box did with the SYNs until both had a connection."""
    with capture.open("rb") as file:
        seen = [
            (record.node, record.port, record.direction, (record.packet.source, record.packet.sequence))
            for record in read_capture(file)
            if record.packet.is_syn
        ]
    for host in (lab.a.name, lab.b.name):
        if boxes := lab.boxes(host):
            at_the_box = [(direction, syn) for node, port, direction, syn in seen if (node, port) == (boxes[-1], 0)]
            at_the_host = {syn for node, _, direction, syn in seen if (node, direction) == (host, Direction.RECEIVED)}
            incoming = [syn for direction, syn in at_the_box if direction is Direction.RECEIVED]
            refused = [syn for syn in incoming if syn not in at_the_host]
            outgoing = len(at_the_box) - len(incoming)
            yield f"NAT {host}: {outgoing} SYNs out, {len(incoming)} in, {len(refused)} turned away"


def _ending(show: Callable[[], dict[str, Any]]) -> int:
    try:
        result = show()
    except MidairError as error:
        return fail(error)
    click.echo(json.dumps(result))
    return 0 if result["ok"] else 1


def _speaker(as_json: bool) -> Callable[[str], None]:
    return (lambda text: None) if as_json else click.echo


@dataclass(frozen=True, slots=True)
class _Stage:
    """Where the three processes run; each start takes what ``subprocess.Popen`` takes."""

    listen: str
    server: Callable[..., subprocess.Popen[Any]]
    sender: Callable[..., subprocess.Popen[Any]]
    receiver: Callable[..., subprocess.Popen[Any]]
    connected: Callable[[], object] = lambda: None
    """Called when both ends have chosen their path."""


def _loopback() -> _Stage:
    return _Stage("127.0.0.1:0", subprocess.Popen, subprocess.Popen, subprocess.Popen)


class _Play:
    """The running processes, and what they said in the order they said it."""

    def __init__(self) -> None:
        self.said: queue.Queue[tuple[str, dict[str, Any] | str | None]] = queue.Queue()
        self.deadline = time.monotonic() + _SECONDS
        self._processes: list[subprocess.Popen[str]] = []
        self._readers: list[threading.Thread] = []

    def start(self, who: str, start: Callable[..., subprocess.Popen[str]], *arguments: str) -> None:
        process = start(
            [sys.executable, "-m", "midair", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a failure's words are in its last event too
            text=True,
            env={**os.environ, **AS_IF_NOTHING_WAS_SET, "PYTHONUNBUFFERED": "1"},
        )
        self._processes.append(process)
        reader = threading.Thread(target=self._read, args=(who, process))
        reader.start()
        self._readers.append(reader)

    def _read(self, who: str, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                self.said.put((who, json.loads(line)))
            except ValueError:
                self.said.put((who, line.rstrip()))
        self.said.put((who, None))

    def next(self) -> tuple[str, dict[str, Any] | str | None]:
        """What is said next; None is the end of a process.

        Raises: MidairError when nothing is said in time.
        """
        try:
            return self.said.get(timeout=max(0.0, self.deadline - time.monotonic()))
        except queue.Empty:
            raise MidairError(f"the demonstration did not end within {_SECONDS:.0f} s") from None

    def close(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for reader in self._readers:
            reader.join()
        for process in self._processes:
            if process.stdout is not None:
                process.stdout.close()


@contextlib.contextmanager
def _play() -> Iterator[_Play]:
    play = _Play()
    try:
        yield play
    finally:
        play.close()


def _show(stage: _Stage, say: Callable[[str], None], mebibytes: int, nat_a: str, nat_b: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="midair-demo-") as folder, _play() as play:
        tree = Path(folder, "sent", "tree")
        target = Path(folder, "received")
        target.mkdir()
        _make_tree(tree, mebibytes)
        play.start("server", stage.server, "serve", "--listen", stage.listen)
        _, line = play.next()
        if not isinstance(line, str) or "serving on " not in line:
            raise MidairError("the server did not start")
        server = line.rpartition(" ")[2]
        say(f"Server   {server}")
        play.start("sender", stage.sender, "send", "--json", "--server", server, str(tree))
        last_words = _follow(play, stage, server, target, say)
        sent, received = tree_digest(tree), tree_digest(target / "tree")
        say(f"blake3 of the tree, sent     {sent}")
        say(f"blake3 of the tree, received {received}")
        done = last_words["receiver"]
        seconds, count = done["transfer_seconds"], done["bytes"]
        ok = sent == received
        rate = round(count / seconds / 1e6, 1) if seconds else 0.0
        if ok:
            say(f"{size_text(count)} in {seconds:.2f} s, {rate} MB/s, {done['path']}")
        return {
            "ok": ok,
            "path": done["path"],
            "bytes": count,
            "seconds": round(seconds, 3),
            "rate_mb_s": rate,
            "sender_blake3": sent,
            "receiver_blake3": received,
            "nat_a": nat_a,
            "nat_b": nat_b,
        }


def _follow(
    play: _Play, stage: _Stage, server: str, target: Path, say: Callable[[str], None]
) -> dict[str, dict[str, Any]]:
    """Tells the story of both ends until both are done; returns the last word of each.

    ``transfer_seconds`` of the receiver's run from the chosen path to the last word.

    Raises: MidairError when one end fails, with what it said.
    """
    last_words: dict[str, dict[str, Any]] = {}
    with_a_path: set[str] = set()
    connected = ended = time.monotonic()
    while len(last_words) < 2:
        who, event = play.next()
        if event is None or isinstance(event, str):
            if event is None and who not in last_words:
                raise MidairError(f"the {who} ended without a word")
            continue
        match event["event"]:
            case "code":
                say(f"Code     {event['code']}")
                arguments = ("receive", "--json", "--server", server, event["code"], "-o", str(target), "-y")
                play.start("receiver", stage.receiver, *arguments)
            case "reflected":
                say(f"{who:8} its port {event['local']} is seen from outside as {event['mapped']}")
            case "attempt":
                times = f" ({event['count']} times)" if event["count"] > 1 else ""
                say(f"{who:8} {event['how']} {event['remote']}: {event['result']}{times}")
            case "path":
                if who not in with_a_path:
                    connected = time.monotonic()
                    with_a_path.add(who)
                    if len(with_a_path) == 2:
                        stage.connected()
                reason = f" because {event['reason']}" if event.get("reason") else ""
                say(
                    f"{who:8} chose {event['path']} ({event['how']}), {event['local']} to {event['remote']}, "
                    f"{event['attempts']} dials, {event['seconds'] * 1000:.0f} ms{reason}"
                )
            case "done":
                if not event["ok"]:
                    raise MidairError(f"the {who} failed: {event.get('error')}")
                last_words[who] = event
                ended = time.monotonic()
    last_words["receiver"]["transfer_seconds"] = ended - connected
    return last_words


def _make_tree(root: Path, mebibytes: int) -> None:
    """A large file of bytes that do not compress, and some that are small, empty or oddly named."""
    (root / "folder" / "empty").mkdir(parents=True)
    block = os.urandom(_MIB)
    with (root / "large.bin").open("wb") as file:
        for number in range(mebibytes):
            file.write(number.to_bytes(8, "big") + block[8:])
    for number in range(20):
        (root / "folder" / f"small-{number}.txt").write_text(f"file {number}\n" * number)
    (root / "folder" / "ünïcode ☂.txt").write_text("☂")


def tree_digest(root: Path) -> str:
    """BLAKE3 over the sorted names below ``root`` and the BLAKE3 of each file. Empty where there is no such folder."""
    from blake3 import blake3

    if not root.is_dir():
        return ""
    whole = blake3()
    for path in sorted(root.rglob("*"), key=lambda path: str(path.relative_to(root)).encode()):
        digest = blake3().update_mmap(path).hexdigest() if path.is_file() else "folder"
        whole.update(f"{path.relative_to(root)}\0{digest}\n".encode())
    return whole.hexdigest()
