"""Whether this computer can have a lab, and if not, what it lacks."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys

from midair.lab.kernel_nat import NatKind, ruleset
from midair.lab.namespace import Namespace

__all__ = ["LabUnavailable", "available"]

_TOOLS = {"ip": "iproute2", "nft": "nftables", "setpriv": "util-linux"}
"""Each command, and the Debian package that has it."""


class LabUnavailable(Exception):
    """This computer cannot have the lab; the text says what is missing."""


def available() -> str | None:
    """Why there can be no lab here, in a sentence; None when there can be.

    What the kernel can do is tried in a namespace of its own, which is gone afterwards; success is remembered.
    """
    if sys.platform != "linux":
        return f"the lab needs Linux, this is {sys.platform}"
    if os.geteuid() != 0:
        return "the lab needs root, because it makes network namespaces"
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        packages = " ".join(_TOOLS[tool] for tool in missing)
        return f"the lab needs {' and '.join(missing)} on PATH (on Debian: apt-get install {packages})"
    try:
        _try_the_kernel()
    except LabUnavailable as lack:
        return str(lack)
    return None


@functools.cache  # which does not remember exceptions
def _try_the_kernel() -> None:
    interfaces = "link add one type veth peer name two\nlink add three type bridge\n"
    rules = "".join(ruleset(kind) for kind in NatKind if kind is not NatKind.NONE)
    try:
        with Namespace("probe") as namespace:
            for argv, text, what in (
                (("ip", "-batch", "-"), interfaces, "virtual Ethernet and bridges"),
                (("nft", "-f", "-"), rules, "nftables with NAT"),
            ):
                attempt = namespace.run(argv, input=text)
                if attempt.returncode != 0:
                    detail = attempt.stderr.strip().partition("\n")[0]
                    raise LabUnavailable(f"the lab needs a kernel with {what}; {argv[0]} says: {detail}")
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabUnavailable(f"the lab cannot make a network namespace: {error}") from error
