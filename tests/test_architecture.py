"""Rules of the layout that import-linter cannot see."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import midair

SOURCE = Path(midair.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))
SOCKET_CALLS = {"setsockopt", "bind", "connect_ex", "sock_connect"}
ASYNCIO_CALLS = {"create_connection", "create_server", "open_connection", "start_server"}
IMPURE = {"asyncio", "socket", "ssl", "threading", "time", "random", "secrets", "os", "pathlib", "subprocess"}
PURE_NAMES = {"wire", "machine", "endpoint", "events", "errors", "config"}
ALSO_PURE = {
    "channel/handshake",
    "channel/keys",
    "channel/move",
    "channel/suites",
    "nat/address",
    "nat/check/advice",
    "nat/check/judge",
    "nat/check/report",
    "nat/forecast",
    "nat/mapping/dialects",
    "nat/mapping/epoch",
    "nat/mapping/http",
    "nat/mapping/igd",
    "nat/mapping/natpmp",
    "nat/mapping/outcome",
    "nat/mapping/pcp",
    "nat/mapping/routes",
    "nat/mapping/ssdp",
    "nat/mapping/xml",
    "nat/told",
    "proxy/handshake",
    "proxy/http_connect",
    "proxy/socks5",
    "relay/proof",
    "rendezvous/clearing",
    "rendezvous/keys",
    "rendezvous/words",
    "server/secrets",
    "server/shared/redis_address",
    "server/shared/resp",
    "server/web_head",
    "server/websocket",
    "stun/framing",
    "stun/responder",
    "transfer/manifest",
    "transfer/names",
    "transfer/ranges",
    "traversal/agent",
    "traversal/attempt",
    "traversal/candidates",
    "traversal/knowledge",
    "traversal/late_dials",
    "traversal/outlook",
    "traversal/planning",
    "traversal/sync",
    "trials/nat_truth",
}


def relative(path: Path) -> str:
    return str(path.relative_to(SOURCE).with_suffix(""))


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_only_port_touches_sockets(path: Path) -> None:
    """The lab stands alone, with sockets of its own. A ``listen`` without ``bind`` is only LocalPort's."""
    if path.is_relative_to(SOURCE / "port") or path.is_relative_to(SOURCE / "lab"):
        return
    calls = [
        node.func
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    assert {call.attr for call in calls} & SOCKET_CALLS == set()
    of_asyncio = {
        call.attr for call in calls if isinstance(call.value, ast.Name) and call.value.id in ("asyncio", "loop")
    }
    assert of_asyncio & ASYNCIO_CALLS == set()


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_pure_files_import_nothing_that_does_something(path: Path) -> None:
    if path.stem not in PURE_NAMES and relative(path) not in ALSO_PURE:
        return
    imported: set[str] = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.partition(".")[0])
    assert imported & IMPURE == set()


def test_the_pure_files_are_where_they_are_said_to_be() -> None:
    assert {relative(path) for path in MODULES} >= ALSO_PURE


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_has_a_docstring_and_says_what_it_exports(path: Path) -> None:
    tree = parsed(path)
    assert ast.get_docstring(tree)
    assert any(
        (isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets))
        or (isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "__all__")
        for node in tree.body
    )


def test_the_public_names_are_these_and_all_of_them_exist() -> None:
    assert midair.__all__ == [
        "Connection",
        "Endpoint",
        "LocalPort",
        "MidairError",
        "ProxyURL",
        "ReceiveSession",
        "SendSession",
        "Server",
        "ServerLimits",
        "ServerURL",
        "Summary",
        "TraversalOptions",
        "__version__",
        "connect",
        "host",
        "punch",
    ]
    for name in midair.__all__:
        assert getattr(midair, name) is not None
