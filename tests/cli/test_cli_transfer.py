"""A file from one command to the other, over loopback, as a person or a script meets it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import trustme
from blake3 import blake3

from support import midair, serving, tree_digest

MIB = 1 << 20


def make_file(path: Path, size: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))
    return path


def test_a_file_arrives_byte_for_byte_and_both_sides_say_so(server: str, tmp_path: Path, folder: Path) -> None:
    source = make_file(tmp_path / "big.bin", 5 * MIB + 17)
    with midair("send", "--json", "--server", server, source) as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-o", folder, "-y") as receiver:
            assert receiver.wait() == 0
            assert sender.wait() == 0
    assert (folder / "big.bin").read_bytes() == source.read_bytes()
    assert [path.name for path in folder.iterdir()] == ["big.bin"]
    for command in (sender, receiver):
        assert command.done["ok"] is True
        assert command.done["bytes"] == 5 * MIB + 17
        assert command.done["bytes_sent"] == 5 * MIB + 17
        assert command.done["exit_code"] == 0
        (file,) = command.of("file")
        assert file["name"] == "big.bin"
        assert file["bytes"] == 5 * MIB + 17
        assert file["outcome"] == "received"
        assert file["blake3"] == blake3(source.read_bytes()).hexdigest()
        path = command.of("path")[-1]
        assert path["path"] == command.done["path"] == "direct"
        assert path["how"] in ("dial", "accept")
        assert command.of("progress")[-1]["bytes"] == 5 * MIB + 17
        assert [event["time"] for event in command.events] == sorted(event["time"] for event in command.events)
        assert "Traceback" not in command.errors


def test_several_files_and_a_tree_with_empty_things_arrive_together(server: str, tmp_path: Path, folder: Path) -> None:
    tree = tmp_path / "photos"
    make_file(tree / "2007" / "a.jpg", 300_000)
    make_file(tree / "2007" / "ünïcode ☂.jpg", 10)
    make_file(tree / "empty.txt", 0)
    (tree / "nothing").mkdir()
    script = make_file(tmp_path / "run.sh", 20)
    script.chmod(0o755)
    os.utime(script, ns=(0, 1_190_800_000_123_456_789))
    with midair("send", "--json", "--server", server, tree, script) as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-o", folder, "-y") as receiver:
            assert receiver.wait() == 0
            assert sender.wait() == 0
    assert tree_digest(folder / "photos") == tree_digest(tree)
    assert (folder / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (folder / "run.sh").stat().st_mtime_ns == 1_190_800_000_123_456_789


def test_quiet_prints_the_code_alone_and_a_bare_code_receives(server: str, tmp_path: Path, folder: Path) -> None:
    source = make_file(tmp_path / "a", 100)
    with midair("tx", "--quiet", "--server", server, source) as sender:
        code = sender.line()
        with midair(code, "--quiet", "-o", folder, "-y", MIDAIR_SERVER=server) as receiver:
            assert receiver.wait() == 0
        assert sender.wait() == 0
    assert sender.lines == [code]
    assert receiver.lines == []
    assert sender.errors == receiver.errors == ""


def test_a_given_code_is_used(server: str, tmp_path: Path, folder: Path) -> None:
    source = make_file(tmp_path / "a", 100)
    with (
        midair("send", "--json", "--server", server, "--code", "77-Hammer time", source) as sender,
        midair("recv", "--json", "--server", server, "77-hammer-time", "-o", folder, "-y") as receiver,
    ):
        assert (sender.wait(), receiver.wait()) == (0, 0)
        assert sender.of("code")[0]["code"] == "77-hammer-time"


def test_with_no_server_named_the_sender_runs_one_and_shows_the_whole_command(tmp_path: Path, folder: Path) -> None:
    source = make_file(tmp_path / "a", 100)
    with midair("send", "--json", source) as sender:
        command = sender.event("code")["command"].split()
        assert command[:3] == ["midair", "receive", "--server"]
        with midair(*command[1:], "-o", folder, "-y", "--json") as receiver:
            assert receiver.wait() == 0
        assert sender.wait() == 0
    assert (folder / "a").read_bytes() == source.read_bytes()


def test_only_the_relay_when_only_the_relay_is_allowed(server: str, tmp_path: Path, folder: Path) -> None:
    source = make_file(tmp_path / "a", 3 * MIB)
    with midair("send", "--json", "--path", "relay", "--server", server, source) as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-o", folder, "-y") as receiver:
            assert receiver.wait() == 0
            assert sender.wait() == 0
    assert (folder / "a").read_bytes() == source.read_bytes()
    assert sender.done["path"] == receiver.done["path"] == "relay"
    assert sender.of("path")[0]["reason"]


def test_over_tls_with_a_certificate_the_system_trusts(tmp_path: Path, folder: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key, trusted = tmp_path / "chain.pem", tmp_path / "key.pem", tmp_path / "ca.pem"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    authority.cert_pem.write_to_path(str(trusted))
    source = make_file(tmp_path / "a", MIB)
    with serving("127.0.0.1:0", "--cert", str(chain), "--key", str(key)) as (address, _):
        assert address.startswith("wss://")
        with midair("send", "--json", "--server", address, source, SSL_CERT_FILE=str(trusted)) as sender:
            code = sender.event("code")["code"]
            arguments = ("receive", "--json", "--server", address, code, "-o", folder, "-y")
            with midair(*arguments) as stranger:
                assert stranger.wait() == 17
                assert "certificate" in stranger.errors
            with midair(*arguments, SSL_CERT_FILE=str(trusted)) as receiver:
                assert receiver.wait() == 0
                assert sender.wait() == 0
    assert (folder / "a").read_bytes() == source.read_bytes()


def test_the_table_of_sockets_is_there_for_scripts() -> None:
    with midair("check", "--sockets", "--json") as command:
        assert command.wait() == 0
        table = json.loads(command.lines[0])
    assert table["strategy"] == "reuseport"
    assert len(table["rows"]) == 8
    seed = {"reuseaddr": True, "reuseport": False, "order": "listen-then-bind"}
    (row,) = [row for row in table["rows"] if row.items() >= seed.items()]
    assert row["bind"] == "EADDRINUSE"


def test_help_is_quick_to_import() -> None:
    """What makes --help slow is imports; none of the heavy ones may be there."""
    script = (
        "import sys; sys.argv=['midair','--help']\n"
        "import midair.cli.main as m\n"
        "try: m.main()\n"
        "except SystemExit: pass\n"
        "heavy = {'asyncio','ssl','rich','websockets','cryptography','msgspec','nacl','prometheus_client','socket'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=10, check=True)
    assert "receive" in result.stdout
    assert result.stderr.strip() == "[]"


def test_what_is_not_hashed_arrives_and_has_no_hash_to_show(server: str, tmp_path: Path, folder: Path) -> None:
    source = make_file(tmp_path / "big.bin", 2 * MIB)
    with midair("send", "--json", "--no-hash", "--server", server, source) as sender:
        code = sender.event("code")["code"]
        with midair("receive", "--json", "--server", server, code, "-o", folder, "-y") as receiver:
            assert receiver.wait() == 0
            assert sender.wait() == 0
    assert (folder / "big.bin").read_bytes() == source.read_bytes()
    for command in (sender, receiver):
        assert command.done["bytes_hashed"] == 0
        assert [(file["outcome"], file["blake3"]) for file in command.of("file")] == [("received", None)]
