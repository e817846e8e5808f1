"""Writes down what is done to a folder by this process, for :mod:`power_model`, while it is really done."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from power_model import ROOT, Done, Inode, Kind, Linked, Moved, Set, Synced, Unlinked, Wrote, left_over

from midair.transfer import disk

__all__ = ["Recording", "build", "recording", "same"]

_MARK = "user.midair.source"
_PUNCH_HOLE = 2


class Recording:
    """What was done in ``root``, and what was there before."""

    def __init__(self, root: Path) -> None:
        self.done: list[Done] = []
        self._lock = threading.RLock()
        self._numbers: dict[tuple[int, int], int] = {}
        self._last = ROOT
        self.before: dict[int, Inode] = {}
        self._take_in(root)

    def _take_in(self, path: Path) -> int:
        found = path.lstat()
        number = self._number(found)
        inode = self.before[number] = _inode(path, found)
        if inode.kind == "folder":
            inode.names = {child.name: self._take_in(child) for child in sorted(path.iterdir())}
        return number

    def _number(self, found: os.stat_result) -> int:
        """A new one; an inode number of the system may come back for another file."""
        number = self._last if not self._numbers else self._last + 1
        self._last = number
        self._numbers[found.st_dev, found.st_ino] = number
        return number

    def _known(self, found: os.stat_result | None) -> int | None:
        return None if found is None else self._numbers.get((found.st_dev, found.st_ino))

    def _of(self, descriptor: int) -> int | None:
        return self._known(os.fstat(descriptor))

    def _at(self, name: str, folder: int | None) -> int | None:
        return None if folder is None else self._known(disk.lstat(name, folder))

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """From here to the end of the block."""
        with contextlib.ExitStack() as patches:
            for module, name in (
                *((os, name) for name in ("open", "mkdir", "symlink", "unlink", "rmdir", "rename", "replace")),
                *((os, name) for name in ("pwrite", "ftruncate", "fsync", "fdatasync", "fchmod", "utime")),
                *((disk, name) for name in ("rename_new", "_allocate", "_syncfs", "_setxattr")),
            ):
                real = getattr(module, name)
                setattr(module, name, self._wrap(real, getattr(self, f"_on_{name.strip('_')}")))
                patches.callback(setattr, module, name, real)
            yield

    def _wrap(self, real: Callable[..., Any], watch: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                return watch(real, *arguments, **options)

        return wrapper

    # -- names --

    def _new(self, folder: int | None, name: str, kind: Kind) -> None:
        assert folder is not None
        parent = self._of(folder)
        found = disk.lstat(name, folder)
        assert found is not None
        if parent is not None:
            content = os.fsencode(os.readlink(name, dir_fd=folder)) if kind == "link" else b""
            self.done.append(Linked(parent, name, self._number(found), kind, stat.S_IMODE(found.st_mode), content))

    def _on_open(self, real: Any, name: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> Any:
        new = bool(flags & os.O_CREAT) and dir_fd is not None and disk.lstat(name, dir_fd) is None
        descriptor = real(name, flags, mode, dir_fd=dir_fd)
        if new:
            self._new(dir_fd, name, "file")
        return descriptor

    def _on_mkdir(self, real: Any, name: str, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        real(name, mode, dir_fd=dir_fd)
        self._new(dir_fd, name, "folder")

    def _on_symlink(self, real: Any, target: str, name: str, *, dir_fd: int | None = None) -> None:
        real(target, name, dir_fd=dir_fd)
        self._new(dir_fd, name, "link")

    def _on_unlink(self, real: Any, name: str, *, dir_fd: int | None = None) -> None:
        number = self._at(name, dir_fd)
        real(name, dir_fd=dir_fd)
        if number is not None and dir_fd is not None:
            parent = self._of(dir_fd)
            assert parent is not None
            self.done.append(Unlinked(parent, name, number))

    _on_rmdir = _on_unlink

    def _on_rename_new(self, real: Any, old: str, new: str, folder: int, new_folder: int) -> None:
        real(old, new, folder, new_folder)
        parent, new_parent = self._of(folder), self._of(new_folder)
        assert parent is not None
        assert new_parent is not None
        self.done.append(Moved(parent, old, new_parent, new))

    def _on_replace(self, real: Any, old: str, new: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        self._on_rename_new(
            lambda *_: real(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd), old, new, src_dir_fd, dst_dir_fd
        )

    _on_rename = _on_replace

    # -- content --

    def _on_pwrite(self, real: Any, descriptor: int, data: Any, offset: int) -> int:
        written: int = real(descriptor, data, offset)
        if (number := self._of(descriptor)) is not None:
            self.done.append(Wrote(number, offset, bytes(data[:written])))
        return written

    def _on_ftruncate(self, real: Any, descriptor: int, size: int) -> None:
        real(descriptor, size)
        if (number := self._of(descriptor)) is not None:
            self.done.append(Wrote(number, size, None))

    def _on_allocate(self, real: Any, descriptor: int, mode: int, start: int, size: int) -> int:
        result: int = real(descriptor, mode, start, size)
        if not result and mode & _PUNCH_HOLE and (number := self._of(descriptor)) is not None:
            self.done.append(Wrote(number, start, bytes(size)))
        return result

    # -- what else is said of a file --

    def _on_fchmod(self, real: Any, descriptor: int, mode: int) -> None:
        real(descriptor, mode)
        if (number := self._of(descriptor)) is not None:
            self.done.append(Set(number, "mode", mode))

    def _on_utime(self, real: Any, path: Any, **options: Any) -> None:
        real(path, **options)
        number = self._of(path) if isinstance(path, int) else self._at(path, options.get("dir_fd"))
        if number is not None:
            self.done.append(Set(number, "time", options["ns"][1]))

    def _on_setxattr(self, real: Any, descriptor: int, name: str, value: bytes) -> None:
        real(descriptor, name, value)
        if (number := self._of(descriptor)) is not None:
            self.done.append(Set(number, "mark", value))

    # -- syncs --

    def _on_fsync(self, real: Any, descriptor: int, *, data_only: bool = False) -> None:
        number = self._of(descriptor)
        if number is None:
            real(descriptor)
        else:  # not really: the power is only said to go
            self.done.append(Synced(number, data_only))

    def _on_fdatasync(self, real: Any, descriptor: int) -> None:
        self._on_fsync(real, descriptor, data_only=True)

    def _on_syncfs(self, real: Any, descriptor: int) -> int:
        self.done.append(Synced(None))
        return 0


@contextlib.contextmanager
def recording(root: Path) -> Iterator[Recording]:
    """What is done in ``root`` within the block. Nothing may be missing: at the end both are compared."""
    watched = Recording(root)
    with watched.watching():
        yield watched
    twin = left_over(watched.before, watched.done, None)
    names = sorted(path.name for path in root.iterdir())
    assert same(twin, root), f"something was done to {names} that the recording does not know: {watched.done[-6:]}"


def _inode(path: Path, found: os.stat_result) -> Inode:
    about: dict[str, object] = {"mode": stat.S_IMODE(found.st_mode), "time": found.st_mtime_ns}
    if stat.S_ISLNK(found.st_mode):
        return Inode("link", os.fsencode(path.readlink()), about)
    if stat.S_ISDIR(found.st_mode):
        return Inode("folder", b"", about)
    with contextlib.suppress(OSError):
        about["mark"] = os.getxattr(path, _MARK)
    return Inode("file", path.read_bytes(), about)


def same(tree: dict[int, Inode], root: Path, number: int = ROOT) -> bool:
    """Whether ``root`` holds what ``tree`` says, as far as names and content go."""
    inode = tree[number]
    names = sorted(path.name for path in root.iterdir())
    return names == sorted(inode.names) and all(
        same(tree, root / name, child)
        if tree[child].kind == "folder"
        else _inode(root / name, (root / name).lstat()).content == tree[child].content
        for name, child in inode.names.items()
    )


def build(tree: dict[int, Inode], root: Path, number: int = ROOT) -> None:
    """Make in ``root``, which is empty, what ``tree`` says."""
    for name, child in tree[number].names.items():
        inode, path = tree[child], root / name
        if inode.kind == "link":
            path.symlink_to(os.fsdecode(inode.content))
            continue
        if inode.kind == "folder":
            path.mkdir()
            build(tree, path, child)
        else:
            path.write_bytes(inode.content)
            if "mark" in inode.about:
                os.setxattr(path, _MARK, inode.about["mark"])  # type: ignore[arg-type]
        if "time" in inode.about:
            os.utime(path, ns=(inode.about["time"], inode.about["time"]))  # type: ignore[arg-type]
        path.chmod(inode.about["mode"])  # type: ignore[arg-type]
