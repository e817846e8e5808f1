"""Which address is shown to the other side when the sender runs the server itself."""

from __future__ import annotations

import ifaddr
import pytest

from midair.endpoint import Family
from midair.port import source_address


@pytest.mark.parametrize("family", [4, 6])
def test_it_is_one_of_our_own_or_none(family: Family) -> None:
    ours = {ip.ip if isinstance(ip.ip, str) else ip.ip[0] for adapter in ifaddr.get_adapters() for ip in adapter.ips}
    found = source_address(family)
    assert found is None or (str(found.address) in ours and found.port == 0 and found.family == family)
