"""``midair lab run``, ``shell`` and ``kinds``, as people and scripts meet them."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from lab_sockets import eventually
from lab_users import run_as_nobody

from midair.lab import BOXES, KernelKind
from midair.lab.capture import syn_story
from support import Command, midair

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

MIDAIR = f"{shlex.quote(sys.executable)} -m midair"


def ended(*arguments: str | Path) -> Command:
    """``midair lab ARGUMENTS``, when it has come to its end."""
    with midair("lab", *arguments) as command:
        command.wait()
        return command


def exit_code(command: Command) -> int | None:
    return command.process.returncode


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -TERM $$", 143)])
def test_it_ends_with_the_exit_code_of_the_command(script: str, code: int) -> None:
    assert exit_code(ended("run", "none x none", "--", "sh", "-c", script)) == code


def test_a_command_that_does_not_exist_is_said_in_one_line() -> None:
    command = ended("run", "none x none", "--", "no-such-command")
    assert exit_code(command) == 127
    assert command.errors == "midair: no-such-command cannot be run: No such file or directory\n"


@pytest.mark.parametrize(
    ("arguments", "explanation"),
    [
        (["run", "dorp x none", "true"], "'dorp' is no box"),
        (["run", "drop", "x", "none", "--", "true"], "Quote it"),
        (["run", "none x none", "--at", "c", "true"], "there is no host 'c'; there are server, proxy, a, b"),
        (["run", "none x none", "--with", "iperf3", "true"], "is not HOST:COMMAND"),
        (["run", "none x none", "--with", "c:true", "true"], "there is no host 'c'"),
        (["shell", "c"], "there is no host 'c'"),
        (["shell", "c", "--topology", "drop"], "'x' has to stand"),
    ],
)
def test_what_cannot_be_meant_is_explained(arguments: list[str], explanation: str) -> None:
    command = ended(*arguments)
    assert exit_code(command) == 2
    assert explanation in command.errors
    assert "Traceback" not in command.errors


def test_it_runs_in_the_host_that_is_named_and_finds_the_others_by_name() -> None:
    script = "hostname; getent hosts a b server | awk '{print $1}'; env | grep ^MIDAIR_LAB_ | sort"
    command = ended("run", "drop>carrier x rst with ipv6", "--at", "b", "--", "sh", "-c", script)
    assert command.lines == [
        "b",
        "2001:db8:a:2::2",  # getent shows IPv6 first
        "2001:db8:b:1::2",
        "2001:db8:5::10",
        "MIDAIR_LAB_A=198.51.100.2",
        "MIDAIR_LAB_B=10.2.0.2",
        "MIDAIR_LAB_PROXY=192.0.2.20",
        "MIDAIR_LAB_SERVER=192.0.2.10",
    ]


def test_names_stand_for_own_addresses_within_a_lan_and_for_outside_ones_else() -> None:
    script = "getent ahostsv4 b | head -n 1 | cut -d' ' -f1; getent ahostsv4 server | cut -d' ' -f1 | sort -u"
    for topology, address in (("(none + none) > drop", "10.1.0.130"), ("none x drop", "203.0.113.2")):
        command = ended("run", topology, "--", "sh", "-c", script)
        assert command.lines == [address, "192.0.2.10", "192.0.2.11"]


def test_what_is_not_in_the_lab_is_not_found_and_nobody_waits_for_it() -> None:
    command = ended("run", "none x none", "--", "sh", "-c", "getent hosts example.org; echo $?; cat /etc/resolv.conf")
    assert command.lines[0] == "2"
    assert "nameserver" not in "".join(command.lines)


def test_this_computer_s_files_and_folder_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("here")
    command = ended("run", "none x none", "--", "sh", "-c", "cat file; pwd; echo written > other")
    assert command.lines == [f"here{tmp_path}"]
    assert (tmp_path / "other").read_text() == "written\n"


def test_a_command_beside_it_is_ready_before_and_speaks_on_stderr_only() -> None:
    serving = (
        "import socket, time; print('getting ready', flush=True); time.sleep(0.5); "
        "s = socket.create_server(('0.0.0.0', 80)); s.accept()[0].sendall(b'served')"
    )
    asking = "import socket; print(socket.create_connection(('server', 80), 5).recv(10).decode())"
    beside = f"server:{shlex.join(python(serving))}"
    command = ended("run", "drop x none", "--with", beside, "--", *python(asking))
    assert command.lines == ["served"]
    assert "getting ready" in command.errors


def test_one_beside_it_that_fails_at_once_is_told() -> None:
    command = ended("run", "drop x none", "--with", "server:echo oh; exit 4", "--", "true")
    assert exit_code(command) == 1
    assert "oh\n" in command.errors
    assert "in server ended at once with exit code 4" in command.errors


@pytest.mark.parametrize("delay", [0, 80])
def test_the_delay_is_as_asked_for(delay: float) -> None:
    text = (
        "import socket, time\n"
        "for _ in range(3):\n"
        "    start = time.monotonic()\n"
        "    socket.socket().connect_ex(('b', 9))\n"
        "    print(time.monotonic() - start)"
    )
    command = ended("run", "none x none", "--delay", str(delay), "--", *python(text))
    times = [float(line) for line in command.lines]
    assert min(times) >= 2 * delay / 1000
    assert min(times) < 2 * delay / 1000 + 0.05


def test_the_same_seed_makes_the_same_choices() -> None:
    serving = "import socket; s = socket.create_server(('0.0.0.0', 80)); print(s.accept()[1][1], flush=True); input()"
    asking = "import socket; socket.create_connection(('server', 80), 5, ('0.0.0.0', 4000)).recv(1)"

    def outside_port(seed: int) -> str:
        beside = f"server:{shlex.join(python(serving))}"
        options = ("--seed", str(seed), "--with", beside)
        return ended("run", "symmetric x none", *options, "--", *python(asking)).errors.splitlines()[0]

    assert outside_port(1) == outside_port(1) != outside_port(2)


def test_a_capture_shows_what_happened(tmp_path: Path) -> None:
    asking = "import socket; socket.socket().connect_ex(('b', 9))"
    ended("run", "none x rst", "--capture", tmp_path / "file", "--", *python(asking))
    story = "\n".join(syn_story(tmp_path / "file", nodes=["b.1"]))
    assert "b.1:0 received  SYN 198.51.100.2:" in story
    assert "b.1:0 sent      RST 203.0.113.2:9" in story


def test_large_segments_are_faster_and_still_arrive() -> None:
    serving = "import socket; c = socket.create_server(('0.0.0.0', 80)).accept()[0]; c.sendall(bytes(1 << 22))"
    asking = (
        "import socket\n"
        "c, n = socket.create_connection(('server', 80), 5), 0\n"
        "while data := c.recv(1 << 20): n += len(data)\n"
        "print(n)"
    )
    beside = f"server:{shlex.join(python(serving))}"
    command = ended("run", "drop x none", "--vnet", "--with", beside, "--", *python(asking))
    assert command.lines == [str(1 << 22)]


class Terminal:
    """A program with a terminal of its own, of which this is the other end."""

    def __init__(self, process: subprocess.Popen[bytes], descriptor: int) -> None:
        self.process = process
        self._descriptor = descriptor
        self._unread = ""

    def write(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def read_until(self, text: str) -> str:
        """What it says, up to and with ``text``; what follows is for the next time."""
        deadline = time.monotonic() + 12
        while text not in self._unread:
            ready, _, _ = select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"no {text!r} in {self._unread!r}"
            self._unread += os.read(self._descriptor, 1000).decode()
        said, _, self._unread = self._unread.partition(text)
        return said + text


@contextlib.contextmanager
def on_a_terminal(*arguments: str, **environment: str) -> Iterator[Terminal]:
    """``midair lab ARGUMENTS``."""
    descriptor, theirs = pty.openpty()
    command = ["setsid", "--ctty", sys.executable, "-m", "midair", "lab", *arguments]
    variables = {**os.environ, "PS1": "$ ", "TERM": "dumb", **environment}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=variables) as process:
        os.close(theirs)
        try:
            yield Terminal(process, descriptor)
        finally:
            os.close(descriptor)
            process.kill()


def test_the_command_has_the_terminal_and_ctrl_c_is_for_it() -> None:
    script = "trap 'echo interrupted; exit 5' INT; tty; read line; echo \"got $line\"; while :; do sleep 0.1; done"
    with on_a_terminal("run", "none x none", "--", "sh", "-c", script) as terminal:
        terminal.read_until("/dev/pts/")
        terminal.write("a line\n")
        terminal.read_until("got a line")
        terminal.write("\x03")
        terminal.read_until("interrupted")
        assert terminal.process.wait(10) == 5


def test_from_a_shell_in_one_host_one_goes_to_another_of_the_same_lab() -> None:
    with on_a_terminal("shell", "a", "--topology", "drop x rst", SHELL="/bin/sh") as terminal:
        assert "midair: in host a of drop x rst: " in terminal.read_until("elsewhere: ")
        terminal.write("echo here is $(hostname); readlink /proc/self/ns/net\n")
        terminal.read_until("here is a\r\n")
        first = terminal.read_until("]")
        terminal.write(f"{MIDAIR} lab shell b\n")
        terminal.write("echo here is $(hostname); readlink /proc/self/ns/net; getent ahostsv4 a\n")
        terminal.read_until("here is b\r\n")
        second = terminal.read_until("]")
        assert first.startswith("net:[")
        assert second.startswith("net:[")
        assert second != first
        terminal.read_until("198.51.100.2")
        terminal.write("exit 0\necho back in $(hostname)\n")
        terminal.read_until("back in a\r\n")
        terminal.write("exit 6\n")
        assert terminal.process.wait(10) == 6


def test_an_invitation_to_a_lab_that_is_gone_is_refused() -> None:
    with midair("lab", "shell", "b", MIDAIR_LAB="999999999 a=3 b=4") as command:
        assert command.wait() == 2
        assert "the lab is gone" in command.errors


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_it_ends_the_command_and_what_that_has_started(number: signal.Signals) -> None:
    with midair("lab", "run", "none x none", "--", "sh", "-c", "sleep 60 & echo $!; wait") as command:
        child = int(command.line())
        command.signal(number)
        assert command.wait() == 128 + number
    assert eventually(lambda: not Path(f"/proc/{child}").exists())


def test_kill_9_leaves_no_process_either() -> None:
    beside = f"server:{shlex.join(python('import os, time; os.setsid() if os.fork() == 0 else 0; time.sleep(60)'))}"
    options = ("--wait", "0.5", "--with", beside)
    with midair("lab", "run", "none x none", *options, "--", "sh", "-c", "sleep 60 & echo $!; wait") as command:
        child = int(command.line())
        network = Path(f"/proc/{child}/ns/net").readlink()
        command.kill()
    assert eventually(lambda: not Path(f"/proc/{child}").exists())
    assert eventually(lambda: network not in networks_in_use())


def networks_in_use() -> set[Path]:
    found = set()
    for link in Path("/proc").glob("[0-9]*/ns/net"):
        with contextlib.suppress(OSError):
            found.add(link.readlink())
    return found


def test_an_ordinary_user_runs_commands_in_it_as_root_of_a_user_namespace() -> None:
    done = run_as_nobody("-m", "midair", "lab", "run", "drop x none", "--", "sh", "-c", "id -u; getent ahostsv4 b")
    assert done.stdout.splitlines()[:1] == ["0"], done.stderr
    assert "203.0.113.2" in done.stdout
    assert done.stderr == ""


def test_every_kind_is_listed() -> None:
    command = ended("kinds")
    names = [line.split()[0] for line in command.lines]
    assert names == ["none", *BOXES, *(f"kernel:{kind}" for kind in KernelKind)]
