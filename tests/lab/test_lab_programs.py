"""Other people's programs in the lab, started by ``midair lab run`` and behind NATs that they know nothing of."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support import Command, midair

pytestmark = pytest.mark.lab

HERE = Path(__file__).parent
PYTHON = shlex.quote(sys.executable)
OTHER_PEOPLES = f"env PYTHONWARNINGS=ignore {shlex.quote(str(Path(sys.executable).parent))}"
MAILBOX = f"{OTHER_PEOPLES}/twist wormhole-mailbox --port tcp:4000"
WORMHOLE = f"{OTHER_PEOPLES}/wormhole --relay-url ws://server:4000/v1 --transit-helper tcp:server:4001"


def succeeded(command: Command) -> str:
    """Its output."""
    assert command.wait(35) == 0, command.errors
    return "\n".join(command.lines)


def test_curl_gets_a_page_from_the_server(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("from far away")
    serve = f"server:{PYTHON} -m http.server 8000 --directory {tmp_path}"
    with midair(
        "lab", "run", "drop x drop", "--with", serve, "--", "curl", "-sS", "http://server:8000/page"
    ) as command:
        assert succeeded(command) == "from far away"
        assert "198.51.100.2" in command.errors  # as which the server has seen it


def test_iperf3_measures_the_link(tmp_path: Path) -> None:
    topology = "symmetric x none with a.rate=20e6"
    iperf = ["iperf3", "--client", "server", "--time", "1", "--json"]
    with midair("lab", "run", topology, "--delay", "2", "--with", "server:iperf3 --server", "--", *iperf) as command:
        result = json.loads(succeeded(command))
    rate = result["end"]["sum_received"]["bits_per_second"]
    assert 5e6 < rate < 20e6  # less TCP's and IP's headers, and the start


def test_ssh_goes_out_through_a_carrier_s_nat(tmp_path: Path) -> None:
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")
    assert sshd, "openssh-server is not installed"
    for name in ("host", "user"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / name)]
        subprocess.run(keygen, check=True, stdin=subprocess.DEVNULL)
    options = {
        "HostKey": tmp_path / "host",
        "AuthorizedKeysFile": tmp_path / "user.pub",
        "StrictModes": "no",
        "UsePAM": "no",
        "PidFile": "none",
    }
    # Debian's sshd wants a folder in /run; it gets one that only the lab sees.
    serve = "mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec "
    serve += shlex.join(
        [sshd, "-D", "-e", "-f", "/dev/null", *(f"-o{name}={value}" for name, value in options.items())]
    )
    client = ["-F", "/dev/null", "-i", str(tmp_path / "user"), "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    client += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    remote = ["root@server", 'echo "$SSH_CONNECTION"; exit 7']
    with midair(
        "lab", "run", "drop>carrier x none", "--with", f"server:{serve}", "--", "ssh", *client, *remote
    ) as command:
        assert command.wait(18) == 7, command.errors
        (line,) = command.lines
    seen_from, _, own, port = line.split()
    assert seen_from in ("198.51.100.2", "198.51.100.3", "198.51.100.4", "198.51.100.5")
    assert (own, port) == ("192.0.2.10", "22")


@pytest.mark.timeout(40)  # four programs of which each takes a second of CPU to start
def test_a_wormhole_pair_behind_two_nats_transfers_a_file(tmp_path: Path) -> None:
    """With a mailbox server and a transit relay of its own, since wormhole cannot go through two NATs."""
    content = os.urandom(100_000)
    (tmp_path / "file").write_bytes(content)
    (tmp_path / "received").mkdir()
    receive = f"{WORMHOLE} receive --accept-file --hide-progress -o {tmp_path}/received 7-guitar-test"
    send = [*shlex.split(WORMHOLE), "send", "--code", "7-guitar-test", "--hide-progress", str(tmp_path / "file")]
    helpers = [
        f"server:cd {tmp_path} && exec {MAILBOX}",
        f"server:{PYTHON} {HERE / 'lab_transit_relay.py'} 4001",
        f"b:{receive} &",  # it will not listen, so there is nothing to wait for
    ]
    options = ["--delay", "10", "--wait", "10", *(word for helper in helpers for word in ("--with", helper))]
    with midair("lab", "run", "symmetric x kernel:masquerade-rst", *options, "--", *send) as command:
        assert "Transfer complete" in succeeded(command) + command.errors
    assert (tmp_path / "received" / "file").read_bytes() == content
