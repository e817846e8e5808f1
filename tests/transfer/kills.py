"""Kill -9 at random moments, on either side of real transfers: real commands over loopback.

After every kill what has a final name is whole; the same commands again finish it; and of what the receiver had got, no
more than MAX_LOST is sent, or hashed, again.

    python tests/transfer/kills.py --kills 200 --seed 1
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from midair.channel import MAX_PAYLOAD
from support import Command, midair, serving

__all__ = ["check_kills"]

MIB = 1 << 20
MAX_LOST = 64 * MIB
_IN_FLIGHT = 16 * MIB
"""What the buffers of both kernels may hold of a connection over loopback."""
_SLOWLY = (2.0, 0.7, None)
"""Seconds that 100 MB are made to take."""


def check_kills(seed: int, kills: int, *, mib: int = 96, say: Callable[[str], None] = lambda text: None) -> int:
    """Transfers of ``mib``, each with a few kills, until there were so many; how many there were.

    Raises: AssertionError, with the seed.
    """
    dice = random.Random(seed)
    done = 0
    with tempfile.TemporaryDirectory(prefix="midair-kills-") as folder, serving() as (server, _):
        base = Path(folder)
        (base / "here/tree").mkdir(parents=True)
        (base / "here/big").write_bytes(dice.randbytes(MIB) * mib)
        for number in range(400):
            path = base / f"here/tree/{number % 9}/{number}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(dice.randbytes(dice.randint(0, 20_000)))
        while done < kills:
            began = time.monotonic()
            transfer = _Transfer(base, server, dice)
            try:
                done += transfer.run(min(dice.randint(1, 4), kills - done))
            except BaseException as error:
                error.add_note(f"seed {seed}, after {done} kills; {transfer.story}")
                raise
            say(f"{done} kills, {time.monotonic() - began:.1f} s: {'; '.join(transfer.story)}")
    return done


class _Transfer:
    def __init__(self, base: Path, server: str, dice: random.Random) -> None:
        self._here, self._there = base / "here", base / "there"
        shutil.rmtree(self._there, ignore_errors=True)
        self._there.mkdir()
        self._server = server
        self._dice = dice
        self._wanted = _contents(self._here)
        self._total = sum(map(len, self._wanted.values()))
        self.story: list[str] = []
        self._offers = 0

    def run(self, kills: int) -> int:
        """Until it is finished; how many kills there were."""
        slowly = self._dice.choice(_SLOWLY)
        seconds = None if slowly is None else slowly * self._total / 100e6
        code = f"{self._dice.randint(1000, 9999)}-kill-nine"
        send = ["send", "--json", "--server", self._server, "--code", code]
        send += [] if seconds is None else ["--limit-rate", str(int(self._total / seconds))]
        send += [str(self._here / "tree"), str(self._here / "big")]
        receive = ["receive", "--json", "--server", self._server, "--wait", "3", code, "-o", str(self._there), "-y"]
        count = 0
        with ExitStack() as running:
            sender = running.enter_context(midair(*send))
            sender.event("code")
            receiver = running.enter_context(midair(*receive))
            for _ in range(kills):
                if not self._wait_a_moment(sender, receiver, seconds or 0.3):
                    break
                count += 1
                if self._dice.random() < 0.6:
                    receiver.kill()
                    self._look("receiver")
                    self._offers = 0
                    receiver = running.enter_context(midair(*receive))
                else:
                    sender.kill()
                    self._look("sender")
                    self._offers = len(receiver.of("offer"))
                    sender = running.enter_context(midair(*send))
            self._finish(running, sender, receiver, receive)
        return count

    def _finish(self, running: ExitStack, sender: Command, receiver: Command, receive: list[str]) -> None:
        code = receiver.wait(40)
        if code:
            # It was killed when the sender had heard that all is there: nobody is left to meet.
            assert sender.wait() == 0, (code, receiver.errors, sender.errors)
            assert _contents(self._there).items() >= self._wanted.items()
            return
        sender.event("code")
        if len(sender.lines) == 1 and sender.process.poll() is None:
            # The sender was killed when the receiver had heard its goodbye: the same command again finds all there.
            receiver = running.enter_context(midair(*receive))
            assert receiver.wait() == 0, (receiver.errors, receiver.lines[-3:])
        assert sender.wait() == 0, (sender.errors, sender.lines[-3:])
        self._check_end(sender, receiver)

    def _wait_a_moment(self, sender: Command, receiver: Command, seconds: float) -> bool:
        """From the offer, before which nothing is touched, to after the last byte. Whether both still run then."""
        try:
            # Not before they have met: whoever dies in the middle of a meeting has spent the code.
            receiver.event("offer", lambda event: len(receiver.of("offer")) > self._offers)
        except AssertionError:
            if receiver.process.poll() is None:
                said = [event for event in receiver.events if event["event"] not in ("attempt", "file", "progress")]
                raise AssertionError(f"the two did not meet: {said}, {sender.lines[-3:]}") from None
            return False
        time.sleep(self._dice.uniform(0, seconds))
        return sender.process.poll() is None and receiver.process.poll() is None

    def _look(self, who: str) -> None:
        found = _contents(self._there)
        for name, content in found.items():
            if ".part" not in name.split("/")[0]:
                assert content == self._wanted[name], f"{name} has the wrong content under its final name"
        self.story.append(f"{who} killed with {sum(map(len, found.values())) // MIB} MiB there")

    def _check_end(self, sender: Command, receiver: Command) -> None:
        assert _contents(self._there) == self._wanted
        assert receiver.done["bytes"] == self._total
        for side in (sender, receiver):
            # A record is hashed before the connection it does not get through turns out to be broken.
            unsent = MAX_PAYLOAD * len(side.of("lost"))
            assert side.done["bytes_hashed"] <= side.done["bytes_sent"] + unsent, "what was there already was hashed"
        names = [event["event"] for event in receiver.events]
        first = names.index("resumed") if "resumed" in names else len(names)
        durable = 0 if "lost" in names[:first] or first == len(names) else receiver.of("resumed")[0]["bytes"]
        # A killed sender costs the receiver nothing: what has come is synced when the connection breaks.
        assert receiver.done["bytes_sent"] <= self._total - durable
        killed = sum(line.startswith("receiver") for line in self.story)
        assert sender.done["bytes_sent"] <= self._total + killed * (MAX_LOST + _IN_FLIGHT)


def _contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    count = check_kills(options.seed, options.kills, say=say)
    say(f"{count} kills in {time.monotonic() - began:.0f} s, seed {options.seed}: all well")


if __name__ == "__main__":
    main()
