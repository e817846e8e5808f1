"""What is possible: for a topology and a list of techniques, the best probability of a connection, by which technique,
and why (``ceiling``). Pure, and written apart from the lab's NATs and hosts, so that each can be checked by the other.

    ceiling(parse_topology("symmetric x drop"), PLAIN).reasoning
"""

from midair.lab.ceiling.ceiling import Ceiling, ceiling, estimates
from midair.lab.ceiling.conditions import Conditions
from midair.lab.ceiling.coverage import Budget
from midair.lab.ceiling.technique import DIRECT, EVERY, PLAIN, Technique

__all__ = ["DIRECT", "EVERY", "PLAIN", "Budget", "Ceiling", "Conditions", "Technique", "ceiling", "estimates"]
