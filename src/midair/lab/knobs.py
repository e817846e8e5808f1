"""The knobs of a NAT and of a link in words: ``hairpin=external-source``, ``delay=0.1``. Pure.

A knob is a field of :class:`NatBehaviour`, of the allocation, timers and limits in it, or of :class:`LinkBehaviour`,
with hyphens for underscores. Values: numbers; ``inf``; ``yes`` and ``no``; the names of an enum's members, in small
letters with hyphens; and lists with slashes, ``80/443``, of which the empty one is nothing at all.
"""

from __future__ import annotations

from dataclasses import fields, replace
from enum import Enum
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final

from midair.lab.behaviour import Allocation, LinkBehaviour, NatBehaviour, NatLimits, NatTimers

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LINK_KNOBS", "NAT_KNOBS", "link_with", "nat_with", "turned_link_knobs", "turned_nat_knobs"]

_Value = Any
_GROUPS: Final[dict[str, type]] = {"allocation": Allocation, "timers": NatTimers, "limits": NatLimits}
"""Fields of NatBehaviour whose own fields are knobs."""


def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name.replace("_", "-") for field in fields(kind))


NAT_KNOBS: Final = (
    *(name for name in _names(NatBehaviour) if name not in _GROUPS),
    *(name for group in _GROUPS.values() for name in _names(group)),
)
LINK_KNOBS: Final = _names(LinkBehaviour)

_LISTS: Final = {"only-ports": "ports", "only-addresses": "addresses", "lose-syns": "numbers from 1"}
"""The knobs that are lists, and what of."""
_NUMBERS: Final = {"step": (-65535, 65535), "addresses": (1, 28), "loss": (0, 1), "mtu": (68, 65535)}
"""What the numbers are between that are not between 0 and infinity, or between 1 and a large one for whole ones."""
_MOST: Final = 1 << 31


def nat_with(behaviour: NatBehaviour, knobs: Mapping[str, str]) -> NatBehaviour:
    """The behaviour with some knobs turned.

    Raises: ValueError for a knob that is not there and a value it does not take.
    """
    own = {name: text for name, text in knobs.items() if name in _names(NatBehaviour) and name not in _GROUPS}
    changed = replace(behaviour, **_values(behaviour, own))
    rest = {name: text for name, text in knobs.items() if name not in own}
    for field_name, kind in _GROUPS.items():
        group = getattr(changed, field_name)
        here = {name: text for name, text in rest.items() if name in _names(kind)}
        if here:
            changed = replace(changed, **{field_name: replace(group, **_values(group, here))})
        rest = {name: text for name, text in rest.items() if name not in here}
    if rest:
        raise ValueError(f"a NAT has no knob {min(rest)!r}; it has {' '.join(NAT_KNOBS)}")
    if changed.allocation.low > changed.allocation.high:
        raise ValueError(f"the ports from {changed.allocation.low} to {changed.allocation.high} are none")
    return changed


def link_with(behaviour: LinkBehaviour, knobs: Mapping[str, str]) -> LinkBehaviour:
    """The same for a link."""
    if unknown := set(knobs) - set(LINK_KNOBS):
        raise ValueError(f"a link has no knob {min(unknown)!r}; it has {' '.join(LINK_KNOBS)}")
    return replace(behaviour, **_values(behaviour, knobs))


def turned_nat_knobs(behaviour: NatBehaviour, base: NatBehaviour) -> dict[str, str]:
    """What has to be turned at ``base`` to get ``behaviour``; empty when they are equal."""
    turned = _turned(behaviour, base, skip=_GROUPS)
    for name in _GROUPS:
        turned |= _turned(getattr(behaviour, name), getattr(base, name))
    return turned


def turned_link_knobs(behaviour: LinkBehaviour, base: LinkBehaviour) -> dict[str, str]:
    """The same for a link."""
    return _turned(behaviour, base)


def _turned(value: _Value, base: _Value, *, skip: Mapping[str, type] | None = None) -> dict[str, str]:
    return {
        name: _text(getattr(value, field_name))
        for name in _names(type(value))
        if name not in (skip or {})
        and getattr(value, field_name := name.replace("-", "_")) != getattr(base, field_name)
    }


def _values(old: _Value, knobs: Mapping[str, str]) -> dict[str, _Value]:
    return {
        (field_name := name.replace("-", "_")): _value(name, text, getattr(old, field_name))
        for name, text in knobs.items()
    }


def _value(name: str, text: str, old: _Value) -> _Value:
    """``text`` as a value of the same type as ``old``."""
    try:
        if name in _LISTS:
            return tuple(_item(name, item) for item in text.split("/")) if text else ()
        if isinstance(old, bool):
            return {"yes": True, "no": False}[text]
        if isinstance(old, Enum):
            return type(old)[text.replace("-", "_").upper()]
        low, high = _between(name, old)
        number = int(text) if isinstance(old, int) else float(text)
        if not low <= number <= high:
            raise ValueError
    except (KeyError, ValueError):
        raise ValueError(f"{name}={text}: {name} takes {_choice(name, old)}") from None
    return number


def _item(name: str, text: str) -> _Value:
    if name == "only-addresses":
        return str(ip_address(text))
    number = int(text)
    if not 0 < number < 65536:
        raise ValueError
    return number


def _between(name: str, old: _Value) -> tuple[float, float]:
    return _NUMBERS.get(name, (1, _MOST) if isinstance(old, int) else (0.0, float("inf")))


def _choice(name: str, old: _Value) -> str:
    if name in _LISTS:
        return f"{_LISTS[name]} with slashes between them"
    if isinstance(old, bool):
        return "yes or no"
    if isinstance(old, Enum):
        return ", ".join(_text(member) for member in type(old))
    low, high = _between(name, old)
    return f"a {'whole ' if isinstance(old, int) else ''}number from {low} to {high}"


def _text(value: _Value) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Enum):
        return value.name.lower().replace("_", "-")
    if isinstance(value, tuple):
        return "/".join(map(str, value))
    # Not 1e+16, since + stands between the two sides of a topology.
    return repr(value).replace("+", "")
