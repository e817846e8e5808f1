"""A program that builds a wire with two hosts, says what it has built, and waits to be killed."""

from __future__ import annotations

import json
import sys

from wire_site import connected, site


def main() -> None:
    with site(ethernet=sys.argv[1] == "veth") as place, connected(place):
        built = {"wire": place.wire.pid, "namespaces": [place.a.fileno(), place.b.fileno()]}
        sys.stdout.write(json.dumps(built) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
