"""The page at ``/``: what this server is and how to use it. One file, no script, nothing from elsewhere."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html import escape

__all__ = ["CONTENT_SECURITY_POLICY", "render"]

_STYLE = """
:root { color-scheme: light dark }
body { max-width: 40rem; margin: 0 auto; padding: 1.5rem; font: 1rem/1.5 system-ui, sans-serif }
pre { padding: .75rem; white-space: pre-wrap; overflow-wrap: anywhere; border: 1px solid; border-radius: .4rem }
code { font-family: ui-monospace, monospace }
"""

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; "
    f"style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HOST = re.compile(r"[A-Za-z0-9.:\[\]_-]{1,260}")


def render(host: str | None, *, secure: bool, motd: str | None) -> bytes:
    """The page. ``host`` is what the client says the server is called (the Host header): shown if it looks like one."""
    name = host if host is not None and _HOST.fullmatch(host) else "THIS-SERVER"
    server = escape(f"{'wss' if secure else 'ws'}://{name}")
    notice = "" if motd is None else f"<p><strong>{escape(motd)}</strong></p>\n"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>midair meeting point</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>A midair meeting point</h1>
{notice}<p>midair sends files straight from one computer to another over TCP, through the NATs in between.
The two computers meet here; then they connect to each other.</p>
<p>On the computer that has the file:</p>
<pre><code>midair send --server {server} FILE</code></pre>
<p>It prints a code. On the other one:</p>
<pre><code>midair receive --server {server} CODE</code></pre>
<h2>What this server sees</h2>
<p>The addresses of both computers, the number in front of the code, and how much passes when no direct
connection comes to be. Never the words of the code, and never names or contents: those are encrypted end to end.</p>
<p>Its mailbox also serves magic-wormhole: <code>wormhole --relay-url {server}/v1</code></p>
</body>
</html>
""".encode()
