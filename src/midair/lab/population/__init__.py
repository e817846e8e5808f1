"""How many pairs of a whole population get through: who there is (``mixes``), pairs drawn from it (``sample``), and
the count (``run``)."""

from midair.lab.population.mixes import MIXES, HostClass, Mix
from midair.lab.population.run import Ending, Tally, Verdict, play_population

__all__ = ["MIXES", "Ending", "HostClass", "Mix", "Tally", "Verdict", "play_population"]
