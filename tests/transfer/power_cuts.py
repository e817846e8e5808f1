"""Power cuts: transfers are recorded, cut anywhere, and what a cut may have left is gone on with by the real receiver.

Each state is checked three times: what has a final name is whole, old or new; the journal vouches for nothing that is
not there; the same command again finishes it.

    python tests/transfer/power_cuts.py --states 5000 --seed 1
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from power_model import left_over
from power_recorder import Recording, build, recording
from transfer_support import Log, Running, channels, cut_after, start_receiving, tree

from midair.errors import ConnectionLostError
from midair.transfer import Clash, Folder, Resolution, Sender, Source, Stream, intake, scan
from midair.transfer.journal import JournalReader, Stage
from midair.transfer.layout import journal_name, part_name

__all__ = ["STORIES", "check_states"]

KIB = 1 << 10


@dataclass
class Story:
    """What is sent, what is there, and what is to be there in the end."""

    paths: list[Path]
    there: Callable[[Path], None] = lambda there: None
    """Makes what is there beforehand."""
    resolve: Callable[[Clash], Resolution] | None = None
    stream: bytes | None = None
    wanted: dict[str, bytes] = field(default_factory=dict)
    """Content of each file at the end."""
    allowed: dict[str, bytes] = field(default_factory=dict)
    """Old content that may stand under a name until then."""


def fresh(here: Path, dice: random.Random) -> Story:
    """Folders, empty files, links; a large file and small ones."""
    (here / "tree/deep/er").mkdir(parents=True)
    (here / "tree/hollow").mkdir()
    (here / "tree/deep/link").symlink_to("er")
    (here / "tree/empty").write_bytes(b"")
    (here / "tree/deep/er/a").write_bytes(dice.randbytes(90 * KIB))
    (here / "tree/deep/b").write_bytes(dice.randbytes(5000))
    (here / "single").write_bytes(dice.randbytes(300 * KIB))
    (here / "tree/deep/b").chmod(0o444)
    return Story([here / "tree", here / "single"])


def many(here: Path, dice: random.Random) -> Story:
    """More files than are synced one by one."""
    for number in range(60):
        path = here / f"many/{number % 7}/{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(dice.randbytes(dice.choice([0, 1, 700, 9000])))
    return Story([here / "many"])


def merge(here: Path, dice: random.Random) -> Story:
    """Into a folder that is there, something replaced, something renamed, something the same."""
    (here / "tree/deep").mkdir(parents=True)
    (here / "tree/deep/new").write_bytes(dice.randbytes(70 * KIB))
    (here / "tree/replaced").write_bytes(dice.randbytes(100 * KIB))
    (here / "tree/alike").write_bytes(dice.randbytes(20 * KIB))
    (here / "single").write_bytes(dice.randbytes(3000))
    old = dice.randbytes(100 * KIB)
    alike = (here / "tree/alike").read_bytes()

    def there(folder: Path) -> None:
        (folder / "tree").mkdir()
        (folder / "tree/replaced").write_bytes(old)
        (folder / "tree/mine").write_bytes(b"mine")
        (folder / "tree/alike").write_bytes(alike)
        (folder / "single").write_bytes(b"old")

    answers = {"tree/replaced": Resolution.OVERWRITE, "single": Resolution.RENAME}
    return Story(
        [here / "tree", here / "single"],
        there,
        lambda clash: answers[clash.name],
        wanted={"single": b"old", "single-1": (here / "single").read_bytes(), "tree/mine": b"mine"},
        allowed={"tree/replaced": old},
    )


def hollow(here: Path, dice: random.Random) -> Story:
    """A file with holes."""
    with (here / "sparse").open("wb") as file:
        for start in (0, 200 * KIB, 500 * KIB):
            file.seek(start)
            file.write(dice.randbytes(64 * KIB))
        file.truncate(700 * KIB)
    return Story([here / "sparse"])


def unrelated(here: Path, dice: random.Random) -> Story:
    """What another transfer left unfinished is there, under the same names."""
    (here / "single").write_bytes(dice.randbytes(150 * KIB))
    (here / "tree").mkdir()
    (here / "tree/x").write_bytes(dice.randbytes(50 * KIB))
    paths = [here / "single", here / "tree"]

    def there(folder: Path) -> None:
        other = here.parent / "other"
        if not other.exists():
            (other / "tree").mkdir(parents=True)
            (other / "tree/x").write_bytes(bytes(80 * KIB))
            (other / "tree/y").write_bytes(bytes(80 * KIB))
            (other / "single").write_bytes(bytes(200 * KIB))
        receive(scan([other / "single", other / "tree"]), folder, broken_after=5)

    return Story(paths, there)


def stream(here: Path, dice: random.Random) -> Story:
    """No journal can tell how far it came, but whose the unfinished file is."""
    content = dice.randbytes(200 * KIB)
    # Of a stream that has its name already nobody can tell that it is the same.
    return Story([], stream=content, wanted={"stream": content}, resolve=lambda clash: Resolution.OVERWRITE)


STORIES: dict[str, Callable[[Path, random.Random], Story]] = {
    story.__name__: story for story in (fresh, many, merge, hollow, unrelated, stream)
}


def check_states(name: str, seed: int, states: int) -> int:
    """Tells one story, with cuts until so many states have been looked at; how many states there were.

    Raises: AssertionError, with the seed.
    """
    dice = random.Random(f"{name} {seed}")
    with tempfile.TemporaryDirectory(prefix="midair-power-", dir=_memory()) as folder, _small_syncs():
        base = Path(folder)
        (base / "here").mkdir()
        teller = _Teller(base, STORIES[name](base / "here", dice), dice)
        while teller.states < states:
            try:
                teller.tell(dice.randint(4, 12))
            except BaseException as error:
                error.add_note(f"story {name}, seed {seed}, state {teller.states}")
                raise
        return teller.states


class _Teller:
    def __init__(self, base: Path, story: Story, dice: random.Random) -> None:
        self._base = base
        self._story = story
        self._dice = dice
        self._source = None if story.stream is not None else scan(story.paths)
        self.states = 0
        here = base / "here"
        self._new = {
            str(path.relative_to(here)): path.read_bytes()
            for path in here.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        self._wanted = self._new | story.wanted

    def tell(self, cuts: int) -> None:
        """One run from the beginning, broken off or not, and states it may have left."""
        there = self._fresh_folder()
        self._story.there(there)
        watched = self._run(there, may_break=True)
        for _ in range(cuts):
            self._cut(watched, depth=1)

    def _cut(self, watched: Recording, depth: int) -> None:
        self.states += 1
        steps = len(watched.done)
        # The first steps are where the journal is made, the last ones where names are given.
        first, last = min(steps, self._dice.randint(1, 12)), max(0, steps - self._dice.randint(0, 12))
        cut = self._dice.choice([first, last, self._dice.randint(0, steps)])
        state = left_over(watched.before, watched.done[:cut], self._dice)
        there = self._fresh_folder()
        build(state, there)
        self._check_names(there)
        self._check_journal(there)
        if _files(there) == self._wanted:
            return  # and no journal any more: it was over
        if depth < 3 and self._dice.random() < 0.4:
            next_ = self._run(there, may_break=self._dice.random() < 0.5)
            self._cut(next_, depth + 1)
        else:
            self._run(there, may_break=False)
            self._check_end(there)

    def _fresh_folder(self) -> Path:
        there = self._base / "there"
        if there.exists():
            shutil.rmtree(there)
        there.mkdir()
        return there

    def _run(self, there: Path, *, may_break: bool) -> Recording:
        after = self._dice.choice([None, 2, 4, 6]) if may_break else None
        destination = Folder(there)
        with recording(there) as watched:
            source = self._stream() if self._source is None else self._source
            receive(source, destination, resolve=self._story.resolve, broken_after=after)
            destination.close()
        return watched

    def _stream(self) -> Stream:
        assert self._story.stream is not None
        near, far = os.pipe()
        content = self._story.stream

        def feed() -> None:
            with contextlib.suppress(BrokenPipeError), os.fdopen(far, "wb") as pipe:
                pipe.write(content)

        return _PipedStream(near, feed)

    def _check_names(self, there: Path) -> None:
        for name, content in _files(there).items():
            if ".part" not in name.split("/")[0]:
                right = content == self._wanted.get(name) or content == self._story.allowed.get(name)
                assert right, f"{name} has the wrong content under its final name"

    def _check_journal(self, there: Path) -> None:
        if self._source is None:
            return
        manifest = self._source.manifest
        path = there / journal_name(manifest.entries[0].path)
        if not path.exists():
            return
        reader = JournalReader(manifest)
        reader.feed(path.read_bytes())
        if not reader.same_content:
            return
        whole = reader.stage is not Stage.RECEIVING
        for start, end in [(0, manifest.total)] if whole else reader.durable:
            for piece in manifest.pieces(start, end):
                name = manifest.entries[piece.index].path
                wanted = self._new[name]
                found = self._unfinished(there, name)
                if found is None and whole:
                    continue  # it has its name already, and that was looked at; or stood there before
                assert found is not None, f"the journal vouches for {name}, which is not there"
                part = slice(piece.offset, piece.offset + piece.size)
                assert found[part] == wanted[part], f"the journal vouches for bytes of {name} that are not there"

    def _unfinished(self, there: Path, name: str) -> bytes | None:
        top, slash, rest = name.partition("/")
        path = there / (part_name(top) + slash + rest)
        return path.read_bytes() if path.is_file() else None

    def _check_end(self, there: Path) -> None:
        assert _files(there) == self._wanted, sorted(_files(there))
        if not self._wanted.keys() - self._new.keys():
            assert tree(there) == tree(self._base / "here")


class _PipedStream(Stream):
    """A stream that is fed once somebody reads it."""

    def __init__(self, descriptor: int, feed: Callable[[], None]) -> None:
        super().__init__(descriptor, "stream")
        threading.Thread(target=feed, daemon=True).start()


def receive(
    source: Source | Stream,
    there: Path | Folder,
    *,
    resolve: Callable[[Clash], Resolution] | None = None,
    broken_after: int | None = None,
) -> None:
    """One run; the connection breaks after so many records."""
    with channels() as (a, b):
        if broken_after is not None:
            cut_after(b, broken_after)
        sender = Running(Sender(a, source, Log()))
        receiver = start_receiving(b, there, resolve=resolve)
        try:
            receiver.outcome()
            sender.outcome()
        except ConnectionLostError:
            assert broken_after is not None
            with contextlib.suppress(ConnectionLostError):
                sender.outcome()


def _files(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


@contextlib.contextmanager
def _small_syncs() -> Iterator[None]:
    real = intake.SYNC_BYTES
    intake.SYNC_BYTES = 64 * KIB
    try:
        yield
    finally:
        intake.SYNC_BYTES = real


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--states", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--story", choices=sorted(STORIES))
    options = parser.parse_args()
    began = time.monotonic()
    names = [options.story] if options.story else list(STORIES)
    total = 0
    for name in names:
        done = check_states(name, options.seed, options.states // len(names))
        total += done
        sys.stdout.write(f"{name}: {done} states\n")
        sys.stdout.flush()
    sys.stdout.write(f"{total} states in {time.monotonic() - began:.0f} s, seed {options.seed}: all well\n")


if __name__ == "__main__":
    main()
