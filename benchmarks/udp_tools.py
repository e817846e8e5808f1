"""What a byte costs by midair and by tools that bring their own transport over UDP: the same file over the same link of
1 Gbit/s, each in turn; CPU-seconds a GiB on either side, and MB/s.

The link is Linux' own token bucket between two network namespaces of one machine, in packets of 1500 bytes; both sides
share its cores, so a tool that needs more than there is does not reach the rate. What is not alike is in the table that
comes out: who encrypts, who hashes, whose congestion control it is, and whether it runs in the kernel.

iroh is installed from PyPI, udx-native and node-datachannel from npm, by pip and npm into a folder in the user's cache;
what does not install, or does not run, is named, and left out.

    python benchmarks/udp_tools.py --output benchmarks/results/udp_tools.json --page docs/reference/udp-tools.md
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import platformdirs
from lab_wire import SERVER, Place, plain_veth
from transfer_contenders import CProgram, Midair, flow_of
from transfer_links import LINKS, limit, serving
from transfer_running import Process, Run, watch

from transfer import build, check_same, machine, write_source

__all__: list[str] = []

CLIENT = "192.0.2.2"
SIDES = Path(__file__).parent / "udp_tools_sides"
LINK = LINKS["1 Gbit/s"]
CACHE = platformdirs.user_cache_path("midair-benchmarks") / "udp-tools"
INSTALL_SECONDS = 300.0


class Tool:
    """One way to send a file; ``run`` raises SystemExit when it fails."""

    name: str
    encrypts: str
    hashes: str
    control: str
    where: str
    most_mib = 1 << 20
    """What it gets to send at most: for what would take minutes."""

    def __init__(self, base: Path) -> None:
        self.folder = base / type(self).__name__
        self.folder.mkdir()

    def arrived(self, source: Path) -> Path:
        return self.folder / source.name

    def run(self, place: Place, source: Path) -> Run:
        raise NotImplementedError

    def versions(self) -> str:
        return ""

    def started(self, place: Place, receiver: list[str | Path], sender: Callable[[str], list[str | Path]]) -> Run:
        """The receiver says a line when it is ready, and the seconds it took as its last."""
        with place.server.entered():
            receiving = Process(receiver)
        ready = receiving.wait_for(bool)
        with place.client.entered():
            sending = Process(sender(ready))
        sent, received = watch(sending, receiving)
        return Run(0.0, float(received.lines[-1][1]), sent.cpu, received.cpu)


class Raw(Tool):
    name, encrypts, hashes = "RAW: a C program over TCP", "no", "no"
    control, where = "the system's", "kernel"
    mode = "raw"

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        program, certificate = build(self.folder)
        self._program = CProgram(self.folder, program, self.mode, certificate)

    def arrived(self, source: Path) -> Path:
        return self._program.arrived(source)

    def run(self, place: Place, source: Path) -> Run:
        os.environ["TRANSFER_HOST"] = SERVER
        with place.server.entered():
            receiver = self._program.receive(source)
        port = receiver.wait_for(str.isdigit)
        with place.client.entered():
            sender = self._program.send(source, port)
        sent, received = watch(sender, receiver)
        return Run(0.0, float(received.lines[-1][1]), sent.cpu, received.cpu)


class Tls(Raw):
    name, encrypts, mode = "TLS 1.3 in C over TCP", "AES-256-GCM", "tls"


class Ours(Tool):
    name, encrypts, hashes = "midair", "AES-256-GCM or -OCB", "BLAKE3, both sides"
    control, where = "bbr or the system's", "kernel"
    options: tuple[str, ...] = ()

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self._midair = Midair(self.folder, f"ws://{SERVER}:7420", "midair", "", [*self.options], in_place=False)

    def arrived(self, source: Path) -> Path:
        return self._midair.arrived(source)

    def run(self, place: Place, source: Path) -> Run:
        self._midair.prepare(source)
        code = self._midair.new_code()
        with serving(place):
            with place.client.entered():
                sender = Process(self._midair.send(source, code))
            with place.server.entered():
                receiver = Process(self._midair.receive(code))
            sent, received = watch(sender, receiver)
        first, durable = flow_of(received)
        return Run(0.0, durable - first, sent.cpu, received.cpu)


class OursUnhashed(Ours):
    name, hashes, options = "midair --no-hash", "no", ("--no-hash",)


class Iroh(Tool):
    name, encrypts, hashes = "iroh (QUIC), from Python", "TLS 1.3 in QUIC", "no"
    control, where = "its own", "the process"
    most_mib = 16
    before: ClassVar[list[str | Path]] = []

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        venv = CACHE / "iroh"
        self._python = venv / "bin" / "python"
        if not self._python.exists():
            install([sys.executable, "-m", "venv", venv])
        install([self._python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "iroh"])

    def versions(self) -> str:
        asked = "import importlib.metadata as m; print(m.version('iroh'))"
        return subprocess.run([self._python, "-c", asked], capture_output=True, text=True, check=True).stdout.strip()

    def run(self, place: Place, source: Path) -> Run:
        side: list[str | Path] = [*self.before, self._python, SIDES / "iroh_side.py"]
        return self.started(
            place, [*side, "receive", self.arrived(source)], lambda ready: [*side, "send", source, ready]
        )


class IrohMended(Iroh):
    name, most_mib = "iroh, its Python package mended", Tool.most_mib
    before: ClassVar[list[str | Path]] = ["env", "IROH_MENDED=yes"]


class Npm(Tool):
    package: str

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        if shutil.which("node") is None or shutil.which("npm") is None:
            raise SystemExit("there is no node and npm here: apt-get install nodejs npm")
        CACHE.mkdir(parents=True, exist_ok=True)
        install(["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", CACHE, self.package])
        os.environ["NODE_PATH"] = str(CACHE / "node_modules")

    def versions(self) -> str:
        description = json.loads((CACHE / "node_modules" / self.package / "package.json").read_text())
        return str(description["version"])


class Udx(Npm):
    name, package, encrypts, hashes = "UDX, from Node.js", "udx-native", "no", "no"
    control, where = "its own", "the process"

    def run(self, place: Place, source: Path) -> Run:
        side: list[str | Path] = ["node", SIDES / "udx_side.js"]
        return self.started(
            place,
            [*side, "receive", self.arrived(source), SERVER, CLIENT],
            lambda ready: [*side, "send", source, CLIENT, SERVER],
        )


class WebRtc(Npm):
    name, package = "WebRTC data channel (libdatachannel), from Node.js", "node-datachannel"
    encrypts, hashes, control, where = "DTLS", "no", "SCTP's own", "the process"

    def run(self, place: Place, source: Path) -> Run:
        side: list[str | Path] = ["node", SIDES / "webrtc_side.js"]
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            return self.started(
                place,
                [*side, "receive", self.arrived(source), folder],
                lambda ready: [*side, "send", source, folder],
            )


TOOLS: dict[str, type[Tool]] = {
    "raw": Raw,
    "tls": Tls,
    "midair": Ours,
    "midair-no-hash": OursUnhashed,
    "iroh": Iroh,
    "iroh-mended": IrohMended,
    "udx": Udx,
    "webrtc": WebRtc,
}


def install(words: list[str | Path]) -> None:
    """Raises: SystemExit, with what it said."""
    try:
        done = subprocess.run(
            [str(word) for word in words], capture_output=True, text=True, timeout=INSTALL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SystemExit(f"{words[0]}: {error}") from error
    if done.returncode:
        raise SystemExit(f"it does not install: {(done.stderr or done.stdout).strip().splitlines()[-1][:200]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, help="write the JSON there")
    parser.add_argument("--page", type=Path, help="write the page of the docs there")
    parser.add_argument("--mib", type=int, default=256)
    parser.add_argument("--runs", type=int, default=3, help="of each tool, after one to warm up")
    parser.add_argument("--only", type=lambda text: text.split(","), help="of: " + ",".join(TOOLS))
    options = parser.parse_args()
    report: dict[str, Any] = {
        "command": f"python benchmarks/udp_tools.py --mib {options.mib} --runs {options.runs}",
        "machine": machine(),
        "mib": options.mib,
        "tools": {},
        "missing": {},
    }
    folder = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="midair-bench-", dir=folder) as base, plain_veth() as place:
        limit(place, LINK)
        running: dict[str, Tool] = {}
        for name in TOOLS:
            if options.only is None or name in options.only:
                try:
                    running[name] = TOOLS[name](Path(base))
                except SystemExit as error:
                    report["missing"][TOOLS[name].name] = str(error)
        sources = {name: Path(base) / f"{min(options.mib, tool.most_mib)}.bin" for name, tool in running.items()}
        for source in set(sources.values()):
            write_source(source, int(source.stem))
        runs = compare(running, place, sources, options.runs, report["missing"])
        small = Path(base) / "1.bin"
        write_source(small, 1)
        starts = compare(running, place, dict.fromkeys(runs, small), 1, report["missing"])
        report["tools"] = {
            name: summarise(running[name], runs[name], int(sources[name].stem), starts[name][0]) for name in starts
        }
    print(json.dumps(report, indent=1))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    if options.page:
        options.page.write_text(page(report))
    return 0


def compare(
    running: dict[str, Tool], place: Place, sources: dict[str, Path], count: int, missing: dict[str, str]
) -> dict[str, list[Run]]:
    """In rounds, each tool once in each; the first does not count. A tool that fails is out, and named."""
    runs: dict[str, list[Run]] = {name: [] for name in sources}
    for number in range(count + 1):
        for name in list(runs):
            tool, source = running[name], sources[name]
            tool.arrived(source).unlink(missing_ok=True)
            try:
                run = tool.run(place, source)
                check_same(source, tool.arrived(source), tool.name)
            except SystemExit as error:
                missing[tool.name] = " ".join(str(error).split())[-300:]
                del runs[name]
                continue
            print(f"round {number}  {tool.name:40} {run.flow:6.2f} s", flush=True)
            if number > 0:
                runs[name].append(run)
            time.sleep(0.2)
    return runs


def summarise(tool: Tool, runs: list[Run], mib: int, start: Run) -> dict[str, Any]:
    """``start`` is a run with 1 MiB."""
    gib = (mib - 1) / 1024
    speeds = [mib * 1.048576 / run.flow for run in runs if run.flow]
    return {
        "name": tool.name,
        "version": tool.versions(),
        "mib": mib,
        "mb_s": {
            "median": round(statistics.median(speeds), 1),
            "min": round(min(speeds), 1),
            "max": round(max(speeds), 1),
        },
        "cpu_s_gib": {
            "send": figures([((run.cpu_send or 0) - (start.cpu_send or 0)) / gib for run in runs]),
            "receive": figures([((run.cpu_receive or 0) - (start.cpu_receive or 0)) / gib for run in runs]),
        },
        "cpu_s_1_mib": {"send": round(start.cpu_send or 0, 2), "receive": round(start.cpu_receive or 0, 2)},
        "encrypts": tool.encrypts,
        "hashes": tool.hashes,
        "congestion_control": tool.control,
        "transport_in": tool.where,
    }


def figures(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 2), "min": round(min(values), 2), "max": round(max(values), 2)}


def page(report: dict[str, Any]) -> str:
    machine, mib = report["machine"], report["mib"]
    lines = [
        "# What a byte costs over TCP and over UDP",
        "",
        f"Made by `{report['command']} --output benchmarks/results/udp_tools.json --page docs/reference/udp-tools.md`: "
        f"{mib} MiB from a file into a file, over a link of 1 Gbit/s (Linux' token bucket, virtual Ethernet, "
        f"packets of 1500 bytes) between two network namespaces of one machine: {machine['cpu']}, {machine['cpus']} "
        f"cores, which both sides share, Linux {machine['kernel']}; load before it {machine['load_before']:.1f}.",
        "",
        "| | MiB | MB/s | CPU-s a GiB, sender | receiver | CPU-s for 1 MiB, both | encrypts | hashes | congestion "
        "control | transport in |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for tool in report["tools"].values():
        speed, cpu = tool["mb_s"], tool["cpu_s_gib"]
        lines.append(
            f"| {tool['name']} {tool['version']} | {tool['mib']} | {speed['median']} [{speed['min']}..{speed['max']}] "
            f"| {cpu['send']['median']} [{cpu['send']['min']}..{cpu['send']['max']}] "
            f"| {cpu['receive']['median']} [{cpu['receive']['min']}..{cpu['receive']['max']}] "
            f"| {tool['cpu_s_1_mib']['send']} / {tool['cpu_s_1_mib']['receive']} "
            f"| {tool['encrypts']} | {tool['hashes']} | {tool['congestion_control']} | {tool['transport_in']} |"
        )
    lines += [
        "",
        "Median [lowest..highest]. MB/s count from the first content to the last being written; CPU is of the whole "
        "processes, less what they take for 1 MiB, which is in a column of its own: their start, and for midair the "
        "meeting and the search for a path.",
        "",
        "What is not alike: RAW, TLS, UDX, iroh and WebRTC are a stream of bytes into a file here; midair also keeps a "
        "journal, syncs what it has written and hashes on both sides. UDX does not encrypt. iroh and the two from npm "
        "are libraries driven from Python and JavaScript by a few lines (`benchmarks/udp_tools_sides/`), and part of "
        "their cost is how content gets there: iroh's own language is Rust, and its Python package copies what "
        "is sent byte by byte in a loop; the row that says mended is without that. No program can have "
        "more than about 119 MB/s of the link.",
    ]
    if report["missing"]:
        lines += ["", "Not there, or did not run:", ""]
        lines += [f"* {name}: {why}" for name, why in report["missing"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
