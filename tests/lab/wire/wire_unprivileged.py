"""A program that punches through two NATs on a wire and says how it went, with the interfaces it is given or gets."""

from __future__ import annotations

import json
import sys

from wire_site import A, B, connected, outcome, round_trips, site, tcp_socket

from midair.lab.behaviour import LinkBehaviour, NatBehaviour


def main() -> None:
    behaviour, link = NatBehaviour(), LinkBehaviour(delay=0.025)
    ethernet = None if sys.argv[1] == "whatever there is" else True
    with (
        site(nat_a=behaviour, nat_b=behaviour, link=link, ethernet=ethernet) as place,
        tcp_socket(place.a, port=4000) as near,
        tcp_socket(place.b, port=5000) as far,
    ):
        near.connect_ex((B, 5000))
        far.connect_ex((A, 4000))
        outcomes = [outcome(near), outcome(far)]
    with site(link=link, ethernet=ethernet) as place, connected(place) as (near, far):
        milliseconds = round_trips(near, far, 5)[0] * 1000
    json.dump({"outcomes": outcomes, "milliseconds": milliseconds}, sys.stdout)


if __name__ == "__main__":
    main()
