"""The files in deploy/ fit the server they are for."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from midair.cli.serve_settings import load_settings
from midair.lab.programs import find_program
from midair.server.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_dashboard_shows_only_what_is_measured() -> None:
    measured = set(re.findall(r"^# TYPE (\w+) ", Metrics().render().decode(), re.MULTILINE))
    shown = set(re.findall(r"midair_\w+", (DEPLOY / "grafana.json").read_text()))
    assert shown
    assert {re.sub(r"_(total|bucket)$", "", name) for name in shown} <= {
        name.removesuffix("_total") for name in measured
    }


def test_the_settings_are_understood_and_all_that_is_commented_out_is_too(tmp_path: Path) -> None:
    text = (DEPLOY / "server.toml").read_text()
    settings = load_settings(str(DEPLOY / "server.toml"), {})
    assert settings.limits.drain_seconds == 30
    everything = tmp_path / "server.toml"
    everything.write_text(re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE))
    assert load_settings(str(everything), {}).proxied_from == ["10.0.0.2"]


def test_haproxy_understands_its_settings() -> None:
    checked = subprocess.run(
        [find_program("haproxy") or "haproxy", "-c", "-f", DEPLOY / "haproxy.cfg"], capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr
