"""Which names are taken from a peer, and how any text is shown on a terminal. Nothing is ever cleaned up: a name is
good as it stands, or the whole offer is refused.

A name from the other side is authenticated but not trusted. It must stay below the folder the person chose, look like
what it is, and mean one thing. So beyond ``..`` and absolute paths also refused are a backslash, what a terminal would
obey or hide (control and format characters; but not the two joiners, which Persian and many an emoji are written with).
On Windows, also what has a meaning of its own there: a colon, the names of devices, a dot or space at the end.

Two names that differ only in case or accents are two names, and ordinary in a Linux tree; but some file systems take
them for one. So they are only noted here, and the receiver looks at the file system it is to write to.

Both sides apply the rules of their own system, the sender while it scans, so that hardly anybody waits for a refusal.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Sequence

__all__ = [
    "MAX_COMPONENT_BYTES",
    "MAX_DEPTH",
    "MAX_PATH_BYTES",
    "NameRules",
    "UnacceptableName",
    "check",
    "escape",
    "escape_lines",
    "fold",
    "link_fault",
    "numbered",
]

MAX_COMPONENT_BYTES = 255
"""NAME_MAX of every usual file system."""
MAX_PATH_BYTES = 4096
"""PATH_MAX of Linux."""
MAX_DEPTH = 128
"""Components of one path. Nobody nests deeper by hand, and each level costs a descriptor on the way down."""

_FORMAT = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = frozenset("\u200c\u200d")
_UNSAFE_ASCII = re.compile(r"[\x00-\x1f\x7f\\]")
_PLAIN = re.compile(r"[ !-.0-\[\]-~]{1,255}")
"""ASCII, but what is unsafe and the slash."""
_PLAIN_EVERYWHERE = bytes(c for c in range(0x20, 0x7F) if chr(c) not in "/:\\") + b"\n"
"""The same without what Windows does not bear, and a line end to put between names."""
_PERHAPS_DEVICES = ("\ncon", "\nprn", "\naux", "\nnul", "\ncom", "\nlpt")
_WINDOWS = sys.platform == "win32"
_DEVICE = re.compile(r"(?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[0-9¹²³])[ ]*(?:\.|$)", re.IGNORECASE)


class UnacceptableName(Exception):
    """A name breaks the rules; the text says which, the name in it escaped."""


def check(path: str, *, windows: bool = _WINDOWS) -> tuple[str, ...]:
    """The components of ``path``, a relative path with ``/`` between them; ``windows`` adds the rules of that system.

    Raises: UnacceptableName.
    """
    try:
        size = len(path.encode())
    except UnicodeEncodeError as error:
        raise UnacceptableName(f"{escape(path)} is not valid Unicode") from error
    if size > MAX_PATH_BYTES:
        raise UnacceptableName(f"{escape(path)} is longer than {MAX_PATH_BYTES} bytes")
    components = tuple(path.split("/"))
    if len(components) > MAX_DEPTH:
        raise UnacceptableName(f"{escape(path)} is deeper than {MAX_DEPTH} levels")
    if path.isascii():
        unsafe = _UNSAFE_ASCII.search(path) is not None
    else:
        unsafe = any(c == "\\" or (unicodedata.category(c) in _FORMAT and c not in _JOINERS) for c in path)
    if unsafe:
        raise UnacceptableName(f"{escape(path)} has characters that are not safe in a file name")
    for component in components:
        if (fault := _fault(component) or (_windows_fault(component) if windows else None)) is not None:
            raise UnacceptableName(f"{escape(path)} {fault}")
    return components


def _is_plain(name: str, path: str) -> bool:
    """Whether ``name``, at the end of ``path``, can be seen to be good quickly; what stands before it is good."""
    return (
        _PLAIN.fullmatch(name) is not None
        and name not in (".", "..")
        and len(path) * 4 <= MAX_PATH_BYTES
        and path.count("/") < MAX_DEPTH
    )


def _fault(component: str) -> str | None:
    if not component:
        return "is absolute or has an empty part"
    if component in (".", ".."):
        return "points outside of the folder"
    if len(component) * 4 > MAX_COMPONENT_BYTES and len(component.encode()) > MAX_COMPONENT_BYTES:
        return f"has a part longer than {MAX_COMPONENT_BYTES} bytes"
    return None


def _windows_fault(component: str) -> str | None:
    if ":" in component:
        return "has a colon, which Windows takes for a drive or a stream"
    if component[-1] in ". ":
        return "has a part that ends with a dot or a space, which Windows would leave out"
    if _DEVICE.match(component):
        return "is the name of a device on Windows"
    return None


def link_fault(path: str, target: str) -> str | None:
    """Why the symbolic link at ``path`` may not point to ``target``; None when it may.

    It has to stay in the folder of this transfer that holds it, whatever else is a link there: so it is relative, and
    all its ``..`` stand in front, where each leads to a folder that is known to be one.
    """
    folders = path.count("/")
    try:
        size = len(target.encode())
    except UnicodeEncodeError:
        return "points to a name that is not valid Unicode"
    if not target or size > MAX_PATH_BYTES:
        return "points nowhere" if not target else f"points to a name longer than {MAX_PATH_BYTES} bytes"
    if target.startswith("/"):
        return "points to an absolute path"
    if any(c == "\\" or (unicodedata.category(c) in _FORMAT and c not in _JOINERS) for c in target):
        return "points to a name with characters that are not safe"
    climbed, below = 0, False
    for component in target.split("/"):
        if component == "..":
            climbed += 1
            if below or climbed >= folders:
                return "points out of the folder that is sent"
        elif component not in ("", "."):
            below = True
    return None if folders else "points out of the folder that is sent"


def numbered(name: str, number: int) -> str | None:
    """``name`` with a number before its ending, ``a-1.txt`` for ``a.txt``; None where that would be too long."""
    stem, dot, ending = name.rpartition(".")
    if not stem.strip(".") or not ending.isalnum():
        stem, dot, ending = name, "", ""
    elif stem.endswith(".tar") and stem != ".tar":
        stem, ending = stem[:-4], f"tar.{ending}"
    result = f"{stem}-{number}{dot}{ending}"
    return result if len(result.encode()) <= MAX_COMPONENT_BYTES else None


def fold(path: str) -> str:
    """The same text for all names that some file system takes for one (Unicode's canonical caseless match, D145)."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", path).casefold())


class NameRules:
    """The rules between names: parents come first and are folders, nothing comes twice. Fed in manifest order."""

    def __init__(self, *, windows: bool = _WINDOWS) -> None:
        self._windows = windows
        self._first: dict[str, str] = {}
        """The first name of each folded form."""
        self._further: set[str] = set()
        self._folders: set[str] = set()
        self.twins: tuple[str, str] | None = None
        """The first two names that some file system takes for one, if there are any."""
        self.for_windows = True
        """Whether all names are also good where the rules of Windows hold."""

    def add(self, path: str, *, directory: bool) -> None:
        """Raises: UnacceptableName."""
        parent, slash, name = path.rpartition("/")
        known = parent in self._folders
        if self._windows or not (known and _is_plain(name, path)):
            check(path, windows=self._windows)
        self.for_windows = self.for_windows and _windows_fault(name) is None
        if slash and not known:
            raise UnacceptableName(f"{escape(path)} lies in something that is not a folder of this transfer")
        folded = fold(path)
        first = self._first.get(folded)
        if first is None:
            self._first[folded] = path
        elif first == path or path in self._further:
            raise UnacceptableName(f"{escape(path)} comes twice")
        else:
            self._further.add(path)
            self.twins = self.twins or (first, path)
        if directory:
            self._folders.add(path)

    def add_all(self, paths: Sequence[str], directories: Sequence[bool]) -> None:
        """As ``add`` for one after the other, ``directories`` saying which are folders; many plain names are judged
        at once. Raises: UnacceptableName."""
        if self._windows or not self._add_plain(paths, directories):
            for path, directory in zip(paths, directories, strict=True):
                self.add(path, directory=directory)

    def _add_plain(self, paths: Sequence[str], directories: Sequence[bool]) -> bool:
        """False, and nothing is added, unless every path can be seen to be good quickly."""
        folders, fresh = self._folders, set[str]()
        names: list[str] = []
        parent_before = None
        for path, directory in zip(paths, directories, strict=True):
            parent, slash, name = path.rpartition("/")
            if parent != parent_before or not parent:
                if slash and parent not in folders and parent not in fresh:
                    return False
                if path.count("/") >= MAX_DEPTH:
                    return False
                parent_before = parent
            names.append(name)
            if directory:
                fresh.add(path)
        if not _are_plain_everywhere(names) or max(map(len, paths)) * 4 > MAX_PATH_BYTES:
            return False
        together = "\n".join(paths)
        if not together.isascii():  # because of a folder's name
            return False
        lower = together.lower()
        folded = paths if lower == together else lower.split("\n")
        if len(set(folded)) < len(folded) or not self._first.keys().isdisjoint(folded):
            return False
        self._first.update(zip(folded, paths, strict=True))
        folders |= fresh
        return True


def _are_plain_everywhere(names: Sequence[str]) -> bool:
    """Whether all of them can be seen to be good quickly, for every system."""
    lengths = list(map(len, names))
    text = "\n".join(names)
    if not names or not text.isascii() or min(lengths) == 0 or max(lengths) > MAX_COMPONENT_BYTES:
        return False
    if text.encode().translate(None, _PLAIN_EVERYWHERE) or text.count("\n") >= len(names):
        return False
    text = f"\n{text}\n".lower()
    if ".\n" in text or " \n" in text:
        return False
    return not any(start in text for start in _PERHAPS_DEVICES) or not any(map(_windows_fault, names))


_SHOWN_CATEGORIES_NOT = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def escape(text: str, limit: int = 256) -> str:
    """``text`` safe to show in one line of a terminal, at most ``limit`` characters.

    What a terminal would obey, hide or break the line at stands as ``\\x1b`` or ``\\u202e``; the middle of a long text
    is left out. Not meant to be read back.
    """
    cut = text if len(text) <= limit else text[: limit // 2] + "…" + text[-(limit // 2) :]
    shown = cut if cut.isascii() and cut.isprintable() else "".join(map(_shown, cut))
    return shown if len(shown) <= limit else shown[: limit // 2] + "…" + shown[len(shown) - (limit - limit // 2 - 1) :]


def escape_lines(text: str) -> str:
    """``text`` of several lines safe to show on a terminal: line ends and tabs stay, the rest is as in ``escape``."""
    return "\n".join(
        "\t".join("".join(map(_shown, part)) for part in line.split("\t"))
        for line in text.replace("\r\n", "\n").split("\n")
    )


def _shown(char: str) -> str:
    if unicodedata.category(char) not in _SHOWN_CATEGORIES_NOT:
        return char
    code = ord(char)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
