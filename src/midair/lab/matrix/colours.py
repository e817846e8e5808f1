"""The colours of pictures, one set for light and one for dark. Pure.

``on-X`` is the colour of a sign on ``X``; contrast is at least 4.5 to 1 for text and 3 to 1 for cells beside the paper.
"""

from __future__ import annotations

from typing import Final

__all__ = ["STYLE"]

_LIGHT: Final = (
    "--paper:#fbfaf7;--card:#ffffff;--ink:#1d2126;--soft:#5b6470;--line:#d9d6cf;--focus:#1d4ed8;"
    "--full:#2f7d5b;--on-full:#ffffff;--part:#8fc3a8;--on-part:#10271c;--none:#e6e3dc;--on-none:#5b6470;"
    "--lucky:#f2d27a;--on-lucky:#3d2c00;--below:#c2352b;--on-below:#ffffff;--above:#7c3aac;--on-above:#ffffff;"
)
_DARK: Final = (
    "--paper:#14171a;--card:#1d2125;--ink:#e9e7e2;--soft:#a2aab3;--line:#343a40;--focus:#8db4ff;"
    "--full:#3f9a72;--on-full:#07150e;--part:#24563f;--on-part:#d5f0e2;--none:#2a2f34;--on-none:#a2aab3;"
    "--lucky:#b08a2a;--on-lucky:#171000;--below:#ec6a5e;--on-below:#220503;--above:#b98ae0;--on-above:#1a0a29;"
)

STYLE: Final = f":root{{color-scheme:light dark;{_LIGHT}}}@media(prefers-color-scheme:dark){{:root{{{_DARK}}}}}"
"""CSS variables for both."""
