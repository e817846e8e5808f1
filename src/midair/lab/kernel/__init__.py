"""Linux routers as NATs and firewalls: the rules, their set-up in a namespace, and what they saw.

    configure(namespace, KernelPart(name="nat_a", kind=KernelKind.MASQUERADE_DROP, interfaces=...))
    read_syn_counts(namespace).refused
    connection_table(namespace)

What connection tracking does is not configured here, it is the kernel's own, and what the lab's user-space NAT is
compared with:

* Each connection is an entry of its own. Inbound, exactly its five-tuple passes; a SYN that crosses an outbound one
  passes too, so simultaneous open works.
* ``masquerade`` keeps the inside port unless another entry has the same port towards the same endpoint. An inside
  endpoint that got another port keeps that towards others too. Seen from outside this is endpoint-independent mapping.
* A RST that answers a SYN deletes its entry. An ICMP error leaves the entry, and is fatal to the host's connect().
* Sequence numbers are checked: a SYN-ACK of another socket than the one that sent the SYN is "invalid", and what is
  invalid leaves untranslated, unless a rule drops it.
"""

from midair.lab.kernel.behaviours import behaviour_of
from midair.lab.kernel.evidence import SynCounts, connection_table, read_syn_counts
from midair.lab.kernel.router import configure
from midair.lab.kernel.rules import ruleset

__all__ = ["SynCounts", "behaviour_of", "configure", "connection_table", "read_syn_counts", "ruleset"]
