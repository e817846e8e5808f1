"""The plain puncher: what Ford, Srisuresh and Kegel's section 4.2 describes and everybody writes first.

It listens and connects on one port, and after an error it tries again when 200 ms have passed. It is the yardstick of
the lab: what it does with each pair of NATs, and why it fails, is known. ``machine`` decides, pure; ``simulated`` plays
it in the simulated net, ``real`` with sockets in hosts, ``in_lab`` with all of a lab. ``story`` is what comes out, and
``reasons`` says why not.
"""

from midair.lab.puncher.in_lab import punch_lab
from midair.lab.puncher.machine import PATIENCE, PAUSE, Puncher
from midair.lab.puncher.real import punch_all
from midair.lab.puncher.reasons import reason
from midair.lab.puncher.simulated import play
from midair.lab.puncher.story import EndStory, Note, Punch

__all__ = ["PATIENCE", "PAUSE", "EndStory", "Note", "Punch", "Puncher", "play", "punch_all", "punch_lab", "reason"]
