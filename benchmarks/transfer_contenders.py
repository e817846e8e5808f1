"""The programs that are compared. Each sends one file over loopback into a file that is there already, written full of
zeros just before, where the program can write in place; see ``writes_in_place``."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from transfer_running import Ended, Process, Run, cpu_of_children, events, watch

from midair.transfer import scan
from midair.transfer.journal import parts_records
from midair.transfer.journal_file import JournalFile
from midair.transfer.layout import journal_name, part_name

__all__ = ["Contender", "contenders"]

BIN = Path(sys.executable).parent
_ZEROS = bytes(1 << 20)


class Contender:
    """``prepare`` before each run, which is not measured; then ``run``; what arrived is at ``arrived``."""

    name: str
    writes_in_place = True
    what: str

    def __init__(self, base: Path) -> None:
        self.folder = base / self.name
        self.folder.mkdir(parents=True)

    def arrived(self, source: Path) -> Path:
        return self.folder / source.name

    def prepare(self, source: Path) -> None:
        """Memory of the destination has been touched, and holds something else than what is to come."""
        if self.writes_in_place:
            fill(self.arrived(source), source.stat().st_size)
        else:
            self.arrived(source).unlink(missing_ok=True)

    def run(self, source: Path) -> Run:
        raise NotImplementedError

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


def fill(path: Path, size: int) -> None:
    """Zeros in all of it; where the file is there its memory is written over, not given back."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    for offset in range(0, size, len(_ZEROS)):
        os.pwrite(descriptor, _ZEROS[: size - offset], offset)
    os.truncate(descriptor, size)
    os.close(descriptor)
    os.utime(path, (1, 1))  # so that nobody takes it for what is to come, by its time


class CProgram(Contender):
    """RAW and TLS."""

    def __init__(self, base: Path, program: Path, mode: str, certificate: list[Path]) -> None:
        self.name = {"raw": "RAW", "tls": "TLS"}[mode]
        self.what = {
            "raw": "C program: mmap and send, recv and pwrite, 1 MiB a call, no encryption",
            "tls": "the same with TLS 1.3 (libssl, AES-256-GCM)",
        }[mode]
        super().__init__(base)
        self._program, self._mode, self._certificate = program, mode, certificate

    def receive(self, source: Path) -> Process:
        return Process([self._program, "receive", self._mode, self.arrived(source), *self._certificate])

    def send(self, source: Path, port: str) -> Process:
        return Process([self._program, "send", self._mode, source, port])

    def run(self, source: Path) -> Run:
        receiver = self.receive(source)
        port = receiver.wait_for(str.isdigit)
        start = time.monotonic()
        sender = self.send(source, port)
        sent, received = watch(sender, receiver)
        return Run(
            whole=time.monotonic() - start,
            flow=float(received.lines[-1][1]),
            cpu_send=sent.cpu,
            cpu_receive=received.cpu,
            mib_send=sent.mib,
            mib_receive=received.mib,
        )


class Midair(Contender):
    """The whole product: both commands, a server they meet at, journal, progress."""

    def __init__(self, base: Path, server: str, name: str, what: str, options: list[str], *, in_place: bool) -> None:
        self.name, self.what, self.writes_in_place = name, what, in_place
        super().__init__(base)
        self._options = ["--json", "--server", server, *options]
        self._number = os.getpid() % 1000 * 1000

    command: ClassVar[list[str | Path]] = [sys.executable, "-m", "midair"]

    def new_code(self) -> str:
        self._number += 1
        return f"{self._number}-bench-mark"

    def send(self, source: Path, code: str) -> list[str | Path]:
        return [*self.command, "send", *self._options, "--code", code, source]

    def receive(self, code: str) -> list[str | Path]:
        return [*self.command, "receive", *self._options, code, "-o", self.folder, "-y"]

    def prepare(self, source: Path) -> None:
        """midair always writes NAME.part, which then gets the name. So that the memory has been touched for it as for
        the others, it finds one here: that of a transfer that was killed before anything of it was durable.
        """
        arrived = self.arrived(source)
        if not self.writes_in_place:
            arrived.unlink(missing_ok=True)
            return
        part = self.folder / part_name(source.name)
        if arrived.exists():
            arrived.rename(part)
        if not part.exists():
            part.touch(0o600)
        part.chmod(0o600)
        fill(part, source.stat().st_size)
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        (self.folder / journal_name(source.name)).unlink(missing_ok=True)
        journal = JournalFile.create(folder, journal_name(source.name))
        journal.begin(scan([source]).manifest.id)
        journal.append(parts_records([part.name]))
        journal.close()
        os.close(folder)

    def run(self, source: Path) -> Run:
        code = self.new_code()
        start = time.monotonic()
        sender = Process(self.send(source, code))
        receiver = Process(self.receive(code))
        sent, received = watch(sender, receiver)
        whole = time.monotonic() - start
        first, durable = flow_of(received)
        code_shown = next(when for when, event in events(sent) if event["event"] == "code")
        return Run(
            whole=whole,
            flow=durable - first,
            cpu_send=sent.cpu,
            cpu_receive=received.cpu,
            mib_send=sent.mib,
            mib_receive=received.mib,
            extra={"code_shown": code_shown - sender.started, "path_to_durable": durable - path_of(received)},
        )


def flow_of(received: Ended) -> tuple[float, float]:
    """When the offer was there, which is accepted and asked for at once, and when all of it was durable."""
    story = events(received)
    offer = next(when for when, event in story if event["event"] == "offer")
    durable = next(when for when, event in story if event["event"] == "progress" and event["bytes"] == event["total"])
    return offer, durable


def path_of(received: Ended) -> float:
    return next(when for when, event in events(received) if event["event"] == "path")


class Wormhole(Contender):
    name = "magic-wormhole"
    what = "both commands, a direct connection, the same server as midair"
    writes_in_place = False

    def __init__(self, base: Path, server: str) -> None:
        super().__init__(base)
        self._server, self._number = server, os.getpid() % 1000 * 1000 + 500

    def run(self, source: Path) -> Run:
        self._number += 1
        code = f"{self._number}-bench-mark"
        # No transit relay: the helper's address leads nowhere, and both sides connect directly.
        elsewhere = ["--relay-url", f"{self._server}/v1", "--transit-helper", "tcp:127.0.0.1:1"]
        common: list[str | Path] = [BIN / "wormhole", *elsewhere]
        start = time.monotonic()
        sender = Process([*common, "send", "--hide-progress", "--no-qr", "--code", code, source])
        receiver = Process([*common, "receive", "--hide-progress", "--accept-file", "-o", self.arrived(source), code])
        sent, received = watch(sender, receiver)
        whole = time.monotonic() - start
        return Run(whole, None, sent.cpu, received.cpu, sent.mib, received.mib)


class Served(Contender):
    """Sends to a daemon that was started before; the CPU of the receiver is that of the daemon's children."""

    _daemon: subprocess.Popen[bytes]

    def serve(self, argv: list[str | Path], port: int) -> None:
        self._daemon = subprocess.Popen(
            [str(word) for word in argv], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        until = time.monotonic() + 10
        while time.monotonic() < until and self._daemon.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return
            time.sleep(0.02)
        assert self._daemon.stderr is not None
        self._daemon.kill()
        raise SystemExit(f"{argv[0]} does not serve: {self._daemon.stderr.read().decode()}")

    def measure(self, argv: list[str | Path]) -> Run:
        before = cpu_of_children(self._daemon.pid)
        start = time.monotonic()
        (sent,) = watch(Process(argv))
        whole = time.monotonic() - start
        time.sleep(0.3)  # for the daemon to take note of its child's end; outside of what is measured
        return Run(whole, None, sent.cpu, cpu_of_children(self._daemon.pid) - before, sent.mib)

    def close(self) -> None:
        self._daemon.terminate()
        self._daemon.wait()
        assert self._daemon.stderr is not None
        self._daemon.stderr.close()
        super().close()


class Rsync(Served):
    name = "rsync daemon"
    what = "rsync --whole-file --inplace to an rsync daemon, no encryption; it checks a whole-file hash"

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self._port = free_port()
        config = self.folder / "rsyncd.conf"
        config.write_text(
            f"use chroot = no\nuid = {os.getuid()}\ngid = {os.getgid()}\n"
            f"[here]\npath = {self.folder}\nread only = no\nreverse lookup = no\n"
        )
        self.serve(
            ["rsync", "--daemon", "--no-detach", "--address=127.0.0.1", f"--port={self._port}", f"--config={config}"],
            self._port,
        )

    def run(self, source: Path) -> Run:
        return self.measure(["rsync", "--whole-file", "--inplace", source, f"rsync://127.0.0.1:{self._port}/here/"])


class Scp(Served):
    name = "scp"
    what = "scp to an sshd with the ciphers both prefer"

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self._port = free_port()
        for key in ("host", "own"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key)], check=True)
        sshd = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin") or "sshd"
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        options = {
            "Port": str(self._port),
            "ListenAddress": "127.0.0.1",
            "HostKey": str(self.folder / "host"),
            "AuthorizedKeysFile": str(self.folder / "own.pub"),
            "StrictModes": "no",
            "UsePAM": "no",
            "PidFile": "none",
            "PermitRootLogin": "yes",
            "Subsystem": "sftp internal-sftp",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        self.serve([sshd, "-D", "-f", "/dev/null", *words], self._port)

    def run(self, source: Path) -> Run:
        known = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
        to = f"127.0.0.1:{self.arrived(source)}"
        return self.measure(
            ["scp", "-q", "-F", "none", "-P", str(self._port), "-i", self.folder / "own", *known, source, to]
        )


class Tar(Contender):
    name = "tar to tar"
    what = "tar c and tar x with a socket between them"
    writes_in_place = False

    def run(self, source: Path) -> Run:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            near = socket.create_connection(listener.getsockname())
            far, _ = listener.accept()
        start = time.monotonic()
        receiver = Process(["tar", "x", "-b", "2048", "-f", "-", "-C", self.folder], stdin=far.fileno())
        sender = Process(["tar", "c", "-b", "2048", "-f", "-", "-C", source.parent, source.name], stdout=near.fileno())
        near.close()
        far.close()
        sent, received = watch(sender, receiver)
        return Run(time.monotonic() - start, None, sent.cpu, received.cpu, sent.mib, received.mib)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def contenders(base: Path, server: str, program: Path, certificate: list[Path]) -> dict[str, Callable[[], Contender]]:
    """Those that can run here, by the word that chooses them."""
    made: dict[str, Callable[[], Contender]] = {
        "raw": lambda: CProgram(base, program, "raw", certificate),
        "tls": lambda: CProgram(base, program, "tls", certificate),
        "midair": lambda: Midair(
            base, server, "midair", "midair send and midair receive as they are", [], in_place=True
        ),
        "midair-no-hash": lambda: Midair(
            base, server, "midair --no-hash", "the same without BLAKE3 on both sides", ["--no-hash"], in_place=True
        ),
        "midair-new": lambda: Midair(
            base, server, "midair, new file", "midair into a file that is not there yet", [], in_place=False
        ),
        "wormhole": lambda: Wormhole(base, server),
        "rsync": lambda: Rsync(base),
        "scp": lambda: Scp(base),
        "tar": lambda: Tar(base),
    }
    needs = {"wormhole": str(BIN / "wormhole"), "rsync": "rsync", "scp": "scp", "tar": "tar"}
    return {name: make for name, make in made.items() if name not in needs or shutil.which(needs[name])}
