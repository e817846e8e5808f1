"""PCP and NAT-PMP messages: the RFCs' layouts byte for byte, and bytes that nobody should send."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midair.endpoint import Endpoint
from midair.nat.mapping import natpmp, pcp
from midair.nat.mapping.outcome import MalformedError

NONCE = bytes(range(1, 13))
ADDRESSES = st.one_of(st.integers(0, 2**32 - 1).map(IPv4Address), st.integers(2**96, 2**128 - 1).map(IPv6Address))
ENDPOINTS = st.builds(Endpoint, ADDRESSES, st.integers(0, 65535))


def test_a_pcp_map_request_has_the_layout_of_rfc_6887() -> None:
    request = pcp.encode_map(
        nonce=NONCE,
        client=IPv4Address("10.1.0.2"),
        internal_port=40123,
        external=Endpoint.of("192.0.2.7", 40124),
        lifetime=7200,
    )
    assert request == bytes.fromhex(
        "02010000 00001c20 00000000000000000000ffff0a010002"  # version, MAP, lifetime, client address
        "0102030405060708090a0b0c 06000000 9cbb 9cbc 00000000000000000000ffffc0000207"
    )


def test_without_a_wish_the_suggested_address_is_zero_in_the_family_of_the_client() -> None:
    of_ipv4 = pcp.encode_map(nonce=NONCE, client=IPv4Address("10.1.0.2"), internal_port=1, lifetime=1)
    of_ipv6 = pcp.encode_map(nonce=NONCE, client=IPv6Address("2001:db8::2"), internal_port=1, lifetime=1)
    assert of_ipv4[-18:] == bytes.fromhex("0000 00000000000000000000ffff00000000")
    assert of_ipv6[-18:] == bytes(18)
    assert of_ipv6[8:24] == IPv6Address("2001:db8::2").packed


def test_a_nonce_of_another_length_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="12"):
        pcp.encode_map(nonce=b"short", client=IPv4Address("10.1.0.2"), internal_port=1, lifetime=1)


def pcp_response(
    *,
    result: int = 0,
    lifetime: int = 3600,
    epoch: int = 99,
    nonce: bytes = NONCE,
    external: Endpoint,
    internal: int = 40123,
) -> bytes:
    address = external.address
    packed = bytes(10) + b"\xff\xff" + address.packed if address.version == 4 else address.packed
    header = bytes((2, 0x81, 0, result)) + struct.pack("!II", lifetime, epoch) + bytes(12)
    return header + nonce + bytes((6, 0, 0, 0)) + struct.pack("!HH", internal, external.port) + packed


@given(ENDPOINTS, st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 65535))
def test_a_pcp_map_response_is_read_as_it_was_written(
    external: Endpoint, result: int, lifetime: int, epoch: int, internal: int
) -> None:
    data = pcp_response(result=result, lifetime=lifetime, epoch=epoch, external=external, internal=internal)
    response = pcp.decode(data)
    assert (response.version, response.opcode, response.result) == (2, pcp.MAP, result)
    assert (response.lifetime, response.epoch) == (lifetime, epoch)
    assert response.mapped == pcp.Mapped(nonce=NONCE, protocol=6, internal_port=internal, external=external)


def test_options_after_a_pcp_response_are_passed_over() -> None:
    data = pcp_response(external=Endpoint.of("192.0.2.1", 1)) + bytes.fromhex("80000004 01020304")
    assert pcp.decode(data).mapped is not None


def test_an_announcement_of_pcp_is_a_header_alone() -> None:
    response = pcp.decode(bytes.fromhex("02800000 00000000 00000007") + bytes(12))
    assert (response.opcode, response.epoch, response.mapped) == (pcp.ANNOUNCE, 7, None)


@pytest.mark.parametrize(
    ("data", "version"),
    [
        ("00 80 0001 00000009", 0),  # NAT-PMP, RFC 6886 section 3.5 with erratum 3618
        ("00 00 0001 00000009", 0),  # the same before the erratum
        ("00 81 0001 00000009", 0),  # 128 plus PCP's opcode, as some answer
        ("01 81 0001 00000000 00000009 000000000000000000000000", 1),
    ],
)
def test_a_server_of_another_version_is_understood_that_far(data: str, version: int) -> None:
    response = pcp.decode(bytes.fromhex(data))
    assert (response.version, response.result) == (version, pcp.UNSUPP_VERSION)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x02",
        bytes.fromhex("02810000 00000000 00000007") + bytes(11),  # one byte short of a header
        bytes.fromhex("02810000 00000000 00000007") + bytes(13),  # no multiple of four
        bytes.fromhex("02010000 00000000 00000007") + bytes(12),  # a request
        bytes.fromhex("03810000 00000000 00000007") + bytes(12),  # another version, and no word about it
        bytes.fromhex("02810000 00000000 00000007") + bytes(1092),  # 1104 bytes
    ],
)
def test_what_is_no_pcp_response_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedError):
        pcp.decode(data)


@given(st.binary(max_size=1200))
def test_no_bytes_make_the_pcp_decoder_do_anything_but_decode_or_refuse(data: bytes) -> None:
    for start in (b"", bytes.fromhex("02810000"), bytes.fromhex("00800001")):
        try:
            response = pcp.decode(start + data)
        except MalformedError:
            continue
        assert 0 <= response.result <= 255


def test_result_codes_have_the_names_of_the_rfcs() -> None:
    assert (pcp.result_name(2), pcp.result_name(12), pcp.result_name(99)) == (
        "NOT_AUTHORIZED",
        "ADDRESS_MISMATCH",
        "result 99",
    )
    assert (natpmp.result_name(3), natpmp.result_name(7)) == ("network failure", "result 7")


# -- NAT-PMP --


def test_nat_pmp_requests_have_the_layout_of_rfc_6886() -> None:
    assert natpmp.encode_address_request() == b"\0\0"
    request = natpmp.encode_map_request(internal_port=40123, external_port=40124, lifetime=7200)
    assert request == bytes.fromhex("00 02 0000 9cbb 9cbc 00001c20")


def test_nat_pmp_answers_are_read() -> None:
    assert natpmp.decode(bytes.fromhex("00 80 0000 00000063 cb007101")) == natpmp.AddressAnswer(
        epoch=99, address=IPv4Address("203.0.113.1")
    )
    assert natpmp.decode(bytes.fromhex("00 82 0000 00000063 9cbb 9cbc 00001c20")) == natpmp.MapAnswer(
        epoch=99, internal_port=40123, external_port=40124, lifetime=7200
    )


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("00 82 0002 00000063 9cbb 0000 00000000", natpmp.ErrorAnswer(version=0, result=2, internal_port=40123)),
        ("00 82 0004 00000063", natpmp.ErrorAnswer(version=0, result=4, internal_port=None)),
        ("00 80 0003 00000063 00000000", natpmp.ErrorAnswer(version=0, result=3, internal_port=None)),
        ("02 82 0001 00000063", natpmp.ErrorAnswer(version=2, result=1, internal_port=None)),
    ],
)
def test_nat_pmp_refusals_are_read(data: str, expected: natpmp.ErrorAnswer) -> None:
    assert natpmp.decode(bytes.fromhex(data)) == expected


@pytest.mark.parametrize(
    "data",
    [
        "",
        "00 80 0000 000000",
        "00 80 0000 00000063 cb0071",  # three bytes of an address
        "00 82 0000 00000063 9cbb 9cbc 00001c",
        "00 81 0000 00000063 9cbb 9cbc 00001c20",  # a UDP mapping
        "00 02 0000 9cbb 9cbc 00001c20",  # a request
        "02 81 0000 00000063 00000000",
    ],
)
def test_what_is_no_nat_pmp_response_is_malformed(data: str) -> None:
    with pytest.raises(MalformedError):
        natpmp.decode(bytes.fromhex(data))


@given(st.binary(max_size=1200))
def test_no_bytes_make_the_nat_pmp_decoder_do_anything_but_decode_or_refuse(data: bytes) -> None:
    for start in (b"", bytes.fromhex("00800000"), bytes.fromhex("00820000")):
        try:
            natpmp.decode(start + data)
        except MalformedError:
            continue
