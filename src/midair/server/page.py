"""The page at ``/``: what this server is, how to use it, what it does. One file, no script, nothing from elsewhere."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html import escape

from midair.server.metrics import Counts

__all__ = ["CONTENT_SECURITY_POLICY", "render"]

REFRESH_SECONDS = 30
_STYLE = """
:root { color-scheme: light dark; --line: color-mix(in srgb, CanvasText 25%, Canvas) }
* { box-sizing: border-box }
body { max-width: 44rem; margin: 0 auto; padding: 1.25rem; font: 1rem/1.55 system-ui, sans-serif }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0 1rem }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
pre { padding: .75rem; margin: .5rem 0 1rem; white-space: pre-wrap; overflow-wrap: anywhere;
  border: 1px solid var(--line); border-radius: .4rem }
code { font-family: ui-monospace, monospace; font-size: .95em }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .75rem; margin: 0 }
dl div { padding: .75rem; border: 1px solid var(--line); border-radius: .4rem }
dt { font-size: .875rem }
dd { margin: 0; font-size: 1.5rem; font-variant-numeric: tabular-nums }
progress { width: 100%; height: .8rem; margin: 1rem 0 0; accent-color: #2a7d4f }
.notice { padding: .75rem; border-left: .25rem solid #2a7d4f; overflow-wrap: anywhere }
footer { margin-top: 2rem; font-size: .875rem }
"""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; "
    f"style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,260}")


def render(host: str | None, *, secure: bool, motd: str | None, counts: Counts) -> bytes:
    """The page. ``host`` is what the client says the server is called (the Host header): shown if it looks like one."""
    name = host if host is not None and _HOST.fullmatch(host) else "THIS-SERVER"
    server = escape(f"{'wss' if secure else 'ws'}://{name}")
    notice = "" if motd is None else f'<p class="notice">{escape(motd)}</p>\n'
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="{REFRESH_SECONDS}">
<title>midair meeting point</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>A midair meeting point</h1>
{notice}<p>midair sends files straight from one computer to another over TCP, through the NATs in between.
The two computers meet here; then they connect to each other.</p>
<h2>How to use it</h2>
<p>On the computer that has the file:</p>
<pre><code>midair send --server {server} FILE</code></pre>
<p>It prints a code. On the other one:</p>
<pre><code>midair receive --server {server} CODE</code></pre>
<h2>What happens here</h2>
{_numbers(counts)}
<h2>What this server sees</h2>
<p>The addresses of both computers, the number in front of the code, and how much passes when no direct
connection comes to be. Never the words of the code, and never names or contents: those are encrypted end to end.</p>
<footer>Its mailbox also serves magic-wormhole: <code>wormhole --relay-url {server}/v1</code></footer>
</body>
</html>
""".encode()


def _numbers(counts: Counts) -> str:
    direct = max(0, counts.met - counts.relayed)
    tiles = {
        "waiting now": f"{counts.waiting:,}",
        "pairs met": f"{counts.met:,}",
        "relayed": f"{counts.relayed:,}",
        "bytes relayed": _bytes(counts.relayed_bytes),
    }
    share = ""
    if counts.met:
        percent = 100 * direct // counts.met
        share = (
            f'<progress max="100" value="{percent}" aria-label="share of direct pairs"></progress>\n'
            f"<p>About {percent} % of the pairs needed no relay.</p>\n"
        )
    listed = "\n".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in tiles.items())
    return f"<dl>\n{listed}\n</dl>\n{share}<p>Since this server was started, {_ago(counts.seconds)} ago.</p>"


def _bytes(count: int) -> str:
    value = float(count)
    for unit in ("B", "KB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:,.0f} PB"


def _ago(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"
