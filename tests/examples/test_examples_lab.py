"""The examples behind two NATs."""

from __future__ import annotations

import pytest
from examples_running import example, said, until_direct

from midair.lab import Lab
from support import serving, wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timeout(60)]


def test_the_echo_comes_back_through_two_nats() -> None:
    with (
        Lab("drop x rst") as lab,
        serving(f"{lab.server.address}:7420", spawner=lab.server.popen) as (server, _),
        example("echo.py", "--server", server, spawner=lab.a.popen) as host,
    ):
        code = host.line().removeprefix("code: ")
        with example("echo.py", "--server", server, code, spawner=lab.b.popen) as peer:
            assert until_direct(peer).startswith(f"connected: direct with {lab.a.outside}:")
            assert peer.process.stdin is not None
            peer.process.stdin.write("through the air\n")
            peer.process.stdin.close()
            assert peer.wait() == 0, peer.errors
            assert said(peer) == ["through the air"]
        assert host.wait() == 0, host.errors


def test_an_application_with_its_own_server_connects_its_peers_through_two_nats() -> None:
    with (
        Lab("drop x rst") as lab,
        serving(f"{lab.server.address}:7420", spawner=lab.server.popen) as (server, _),
        example(
            "own_signalling.py", "broker", "--listen", f"{lab.server.address}:7421", spawner=lab.server.popen
        ) as broker,
    ):
        wait_until(lambda: bool(broker.lines), "the broker")
        at = f"{lab.server.address}:7421"
        common = ("--broker", at, "--room", "tea", "--secret", "5a" * 32, "--midair", server, "--direct")
        with (
            example("own_signalling.py", "peer", "--name", "ann", *common, spawner=lab.a.popen) as ann,
            example("own_signalling.py", "peer", "--name", "bob", *common, spawner=lab.b.popen) as bob,
        ):
            for peer, other, outside in ((ann, "bob", lab.b.outside), (bob, "ann", lab.a.outside)):
                assert peer.wait() == 0, peer.errors
                assert peer.lines[0].startswith(f"connected: direct with {outside}:")
                assert peer.lines[1:] == [f"{other} says hello"]
