"""The command line: the only place that prints, reads argv or exits."""

from __future__ import annotations

__all__: list[str] = []
