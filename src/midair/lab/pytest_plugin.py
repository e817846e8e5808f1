"""The lab for other people's tests: ``pytest -p midair.lab.pytest_plugin``, or in the topmost conftest.py

    pytest_plugins = ["midair.lab.pytest_plugin"]

It gives the fixture ``lab``, with which a test makes as many labs as it wants, and the marker of the same name for
tests that make theirs otherwise. Where there can be no lab these tests are skipped with the reason; they fail instead
with ``--lab-required``, and where the environment variable ``CI`` is set, so that nobody takes a test for passed that
has never run.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from midair.lab.lab import Lab
from midair.lab.requirements import available

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from midair.lab.description import Topology

__all__ = ["LabFactory", "lab"]


class LabFactory(Protocol):
    """Makes a lab that is up until the test ends; the arguments are those of :class:`midair.lab.Lab`."""

    def __call__(self, topologies: str | Topology | Sequence[str | Topology], **options: Any) -> Lab: ...


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--lab-required", action="store_true", help="Fail tests that need midair's lab where there can be none."
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "lab: needs midair's lab: network namespaces, so Linux, and root or a user namespace"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("lab") is not None:
        _require(item.config, available())


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[LabFactory]:
    """Makes labs: ``lab("drop x rst")`` is one that is up. All of them end with the test."""
    with contextlib.ExitStack() as labs:

        def make(topologies: str | Topology | Sequence[str | Topology], **options: Any) -> Lab:
            new = Lab(topologies, **options)
            _require(request.config, available(kernel=bool(new.blueprint.kernels)))
            return labs.enter_context(new)

        yield make


def _require(config: pytest.Config, lack: str | None) -> None:
    if lack is None:
        return
    if config.getoption("--lab-required") or os.environ.get("CI"):
        pytest.fail(lack, pytrace=False)
    pytest.skip(lack)
