"""An ordinary user has the wire too, in namespaces of his own: there /dev/net/tun may be closed, veth never is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from midair import lab

pytestmark = pytest.mark.lab

NOBODY = 65534
PROGRAM = Path(__file__).with_name("wire_unprivileged.py")
AS_NOBODY = [] if os.getuid() else ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
IN_OWN_NAMESPACES = ["unshare", "--user", "--map-root-user", "--net"]


def succeeds(*argv: str) -> bool:
    return subprocess.run([*AS_NOBODY, *argv], capture_output=True, cwd="/", timeout=10).returncode == 0


@pytest.fixture(scope="module")
def python() -> str:
    """That of the tests may lie in root's home, closed to others; the lab needs no more than a standard library."""
    if not succeeds(*IN_OWN_NAMESPACES, "true"):
        pytest.skip("this kernel gives ordinary users no user namespaces")
    found = (sys.executable, shutil.which("python3", path="/usr/local/bin:/usr/bin"))
    for candidate in filter(None, found):
        if succeeds(*IN_OWN_NAMESPACES, candidate, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"):
            return candidate
    pytest.skip("there is no Python 3.11 that an ordinary user may execute")


@pytest.mark.parametrize("interfaces", ["whatever there is", "veth"])
def test_an_ordinary_user_punches_through_two_nats_with_the_delays_of_the_links(python: str, interfaces: str) -> None:
    source = Path(lab.__file__).parents[2]
    done = subprocess.run(
        [*AS_NOBODY, *IN_OWN_NAMESPACES, python, str(PROGRAM), interfaces],
        capture_output=True,
        text=True,
        cwd="/",
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"},
        timeout=18,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["outcomes"] == [0, 0]
    assert 100 <= said["milliseconds"] < 103
