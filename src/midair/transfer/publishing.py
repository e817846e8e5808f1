"""Unfinished data gets its final names."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from midair.transfer import disk
from midair.transfer.manifest import Manifest
from midair.transfer.plan import Fate, Plan

__all__ = ["Publisher"]


class Publisher:
    """Moves a tree of unfinished data to where it belongs, a folder as a whole where nothing has its name."""

    def __init__(self, manifest: Manifest, plan: Plan) -> None:
        notable = [(index, manifest.entries[index].path) for index, _ in plan.notable()]
        self._replacing = {path for index, path in notable if plan.fate(index) is Fate.REPLACING}
        self._names = {path: name for index, path in notable if (name := plan.new_name(index)) is not None}
        self.at = ""
        """The path that is being published."""

    def publish(self, part: str, folder: int, name: str, target_folder: int, path: str) -> None:
        """``part`` in ``folder`` gets ``name`` in ``target_folder``, or what the plan has instead of it for ``path``.

        Raises: FileExistsError, OSError.
        """
        self.at = path
        staged = disk.lstat(part, folder)
        if staged is None:
            return
        name = self._names.get(path, name)
        there = disk.lstat(name, target_folder)
        if there is None:
            self._move(part, folder, name, target_folder, staged)
        elif (there.st_dev, there.st_ino) == (staged.st_dev, staged.st_ino):
            os.unlink(part, dir_fd=folder)  # where renaming is link and unlink: it stopped in between
        elif stat.S_ISDIR(staged.st_mode) and stat.S_ISDIR(there.st_mode) and path not in self._names:
            self._merge(part, folder, name, target_folder, path)
        elif path in self._replacing and not stat.S_ISDIR(there.st_mode):
            os.replace(part, name, src_dir_fd=folder, dst_dir_fd=target_folder)
        else:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)

    def _merge(self, part: str, folder: int, name: str, target_folder: int, path: str) -> None:
        with contextlib.ExitStack() as opened:
            source = disk.open_folder(part, folder)
            opened.callback(os.close, source)
            target = disk.open_folder(name, target_folder)
            opened.callback(os.close, target)
            with contextlib.suppress(OSError):
                os.fchmod(source, 0o700)  # it is dressed already, and what is in it has to leave
            for child in sorted(os.listdir(source)):  # noqa: PTH208 (a descriptor)
                self.publish(child, source, child, target, f"{path}/{child}")
            self.at = path
            os.fsync(target)
        os.rmdir(part, dir_fd=folder)

    def _move(self, part: str, folder: int, name: str, target_folder: int, staged: os.stat_result) -> None:
        if not stat.S_ISDIR(staged.st_mode) or folder == target_folder or staged.st_mode & stat.S_IWUSR:
            disk.rename_new(part, name, folder, target_folder)
            return
        # A folder changes its ".." when it moves, so it has to be writable in that moment.
        descriptor = disk.open_folder(part, folder)
        try:
            os.fchmod(descriptor, staged.st_mode | stat.S_IRWXU)
            disk.rename_new(part, name, folder, target_folder)
            os.fchmod(descriptor, stat.S_IMODE(staged.st_mode))
        finally:
            os.close(descriptor)
