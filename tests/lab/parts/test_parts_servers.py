"""Real servers and proxies at the lab's public hosts, used from behind a NAT."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from parts_clients import TurnClient, connect, eventually, listen, serve_http

from midair.lab.lab import Lab
from midair.lab.namespace import Namespace
from midair.lab.parts import HttpProxy, RedisServer, Service, ServiceUnavailable, SocksProxy, TurnServer
from midair.lab.parts.service import program

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """``a`` is behind a NAT, ``b`` gets out to its proxy only."""
    with Lab("kernel:masquerade-drop x proxy-only", delay=0.01) as found:
        yield found


@pytest.fixture(autouse=True)
def installed() -> None:
    """Skips where the programs are not."""
    for name in ("redis-server", "turnserver", "microsocks", "tinyproxy"):
        try:
            program(name, name)
        except ServiceUnavailable as lack:
            pytest.skip(str(lack))


def fetch(lab: Lab, host: Namespace, *arguments: str) -> str:
    """What curl gets by a proxy from an HTTP server that ``host`` itself cannot reach."""
    with listen(lab.server, 80) as listener:
        answering = threading.Thread(target=serve_http, args=(listener, b"fetched"), daemon=True)
        answering.start()
        done = host.run(["curl", "-sS", *arguments, f"http://{lab.server.address}/"])
        assert done.returncode == 0, done.stderr
        answering.join(5)
    return done.stdout


def test_redis_is_reached_from_behind_a_nat(lab: Lab) -> None:
    with RedisServer(lab.server, address=lab.server.address) as redis:
        assert redis.url == "redis://192.0.2.10:6379"
        with connect(lab.a, lab.server.address, 6379) as client:
            client.sendall(b"SET key value\r\nGET key\r\n")
            answer = b""
            while b"value" not in answer:
                answer += client.recv(100)
        assert answer == b"+OK\r\n$5\r\nvalue\r\n"
    assert not redis.running


def test_redis_forgets_everything_when_it_ends(lab: Lab) -> None:
    for request, expected in ((b"SET key value\r\n", b"+OK\r\n"), (b"GET key\r\n", b"$-1\r\n")):
        with (
            RedisServer(lab.server, address=lab.server.address),
            connect(lab.a, lab.server.address, 6379) as client,
        ):
            client.sendall(request)
            assert client.recv(100) == expected


def test_redis_reads_no_dump_that_lies_about(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dump.rdb").write_bytes(b"not a dump, so that reading it ends the server")
    monkeypatch.chdir(tmp_path)
    with RedisServer(lab.server, address=lab.server.address) as redis:
        assert redis.running
    assert [path.name for path in tmp_path.iterdir()] == ["dump.rdb"]


def test_a_turn_server_relays_a_peer_that_speaks_plain_tcp(lab: Lab) -> None:
    with TurnServer(lab.server, address=lab.server.address) as turn:
        client = TurnClient(lab.a, lab.server.address, 3478, user=turn.user, password=turn.password)
        try:
            address, port = client.allocate()
            assert address == lab.server.address
            client.permit(lab.proxy.address)
            with connect(lab.proxy, address, port) as peer:
                data, seen = client.accept()
                with data:
                    assert seen == peer.getsockname()
                    peer.sendall(b"there")
                    assert data.recv(100) == b"there"
                    data.sendall(b"and back")
                    assert peer.recv(100) == b"and back"
        finally:
            client.close()
    assert not turn.running


def test_a_socks_proxy_is_the_way_out_where_there_is_no_other(lab: Lab) -> None:
    with SocksProxy(lab.proxy, address=lab.proxy.address) as proxy:
        assert fetch(lab, lab.b, "--socks5", f"{lab.proxy.address}:1080") == "fetched"
    assert not proxy.running


def test_an_http_proxy_connects_to_any_port(lab: Lab) -> None:
    with HttpProxy(lab.proxy, address=lab.proxy.address) as proxy:
        assert fetch(lab, lab.b, "--proxytunnel", "--proxy", f"http://{lab.proxy.address}:8888") == "fetched"
    assert not proxy.running


@pytest.mark.parametrize(("kind", "scheme", "refusal"), [(SocksProxy, "socks5", "(97)"), (HttpProxy, "http", "401")])
def test_a_proxy_can_ask_for_a_password(
    lab: Lab, kind: type[SocksProxy] | type[HttpProxy], scheme: str, refusal: str
) -> None:
    def by(password: str) -> list[str]:
        return ["--proxytunnel", "--proxy", f"{scheme}://lab:{password}@{lab.proxy.address}:3128"]

    with kind(lab.proxy, address=lab.proxy.address, port=3128, user="lab", password="secret"):
        assert fetch(lab, lab.b, *by("secret")) == "fetched"
        with listen(lab.server, 80) as listener:
            refused = lab.b.run(["curl", "-sS", *by("wrong"), f"http://{lab.server.address}/"])
            assert refused.returncode != 0
            assert (
                refusal in refused.stderr
            )  # the proxy's own word (tinyproxy's is not 407 here), not somebody's silence
            listener.setblocking(False)
            with pytest.raises(BlockingIOError):
                listener.accept()


def test_a_program_that_is_missing_is_named_with_its_package() -> None:
    with pytest.raises(ServiceUnavailable, match=r"no-such-program is not installed .*apt-get install some-package"):
        program("no-such-program", "some-package")


def test_a_program_that_ends_at_its_start_is_quoted() -> None:
    with (
        Namespace("host") as host,
        pytest.raises(ServiceUnavailable, match=r"ended at its start in host:\ncannot do it"),
    ):
        Service(host, ["sh", "-c", "echo cannot do it; exit 1"], listens=[("tcp", 1)])


def test_a_program_that_does_not_listen_is_given_up_and_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("midair.lab.parts.service._START_SECONDS", 0.2)
    with Namespace("host") as host:
        with pytest.raises(ServiceUnavailable, match="sleep does not listen in host"):
            Service(host, ["sleep", "60"], listens=[("tcp", 1)])
        assert host.processes == []


def test_a_program_reads_its_configuration_and_can_write_without_leaving_a_file() -> None:
    script = 'cat "$0"; echo 42 > "$1"; cat "$1"; rm "$1"'
    with (
        Namespace("host") as host,
        pytest.raises(ServiceUnavailable, match=r"ended at its start in host:\nhello\n42\nrm: .*not permitted"),
    ):
        Service(
            host, ["sh", "-c", script, "{configuration}", "{scratch}"], listens=[("tcp", 1)], configuration="hello\n"
        )


def test_nothing_is_left_of_them_when_their_lab_is_killed() -> None:
    script = """
        import time
        from midair.lab.namespace import Namespace
        from midair.lab.parts import HttpProxy, RedisServer, SocksProxy, TurnServer
        host = Namespace("host")
        host.run(["ip", "link", "set", "lo", "up"])
        parts = [kind(host, address="127.0.0.1") for kind in (HttpProxy, RedisServer, SocksProxy, TurnServer)]
        print(*(process.pid for process in host.processes), flush=True)
        time.sleep(60)
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        pids = [int(word) for word in killed.stdout.readline().split()]
        assert len(pids) == 4
        os.kill(killed.pid, signal.SIGKILL)
    assert eventually(lambda: not any(Path(f"/proc/{pid}/fd").exists() and list_of(pid) for pid in pids))


def list_of(pid: int) -> list[str]:
    """What a process has open; nothing when it has ended and nobody has asked how."""
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except FileNotFoundError:
        return []
