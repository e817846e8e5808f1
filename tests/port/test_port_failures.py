"""Error numbers and what they mean."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from midair.endpoint import Endpoint
from midair.port import ConnectFailedError, ConnectFailure, classify
from midair.port.failures import errno_name

REMOTE = Endpoint.of("192.0.2.1", 7420)


@pytest.mark.parametrize(
    ("name", "failure"),
    [
        ("ECONNREFUSED", ConnectFailure.REFUSED),
        ("ECONNRESET", ConnectFailure.RESET),
        ("ECONNABORTED", ConnectFailure.RESET),
        ("ENOTCONN", ConnectFailure.RESET),
        ("EHOSTUNREACH", ConnectFailure.UNREACHABLE),
        ("ENETUNREACH", ConnectFailure.UNREACHABLE),
        ("ENETDOWN", ConnectFailure.UNREACHABLE),
        ("ENOPROTOOPT", ConnectFailure.UNREACHABLE),
        ("EAFNOSUPPORT", ConnectFailure.UNREACHABLE),
        ("ETIMEDOUT", ConnectFailure.TIMED_OUT),
        ("EADDRINUSE", ConnectFailure.IN_USE),
        ("EADDRNOTAVAIL", ConnectFailure.DUPLICATE),
        ("EACCES", ConnectFailure.DENIED),
        ("EPERM", ConnectFailure.DENIED),
        ("EMFILE", ConnectFailure.RESOURCES),
        ("ENFILE", ConnectFailure.RESOURCES),
        ("ENOBUFS", ConnectFailure.RESOURCES),
        ("EINVAL", ConnectFailure.OTHER),
    ],
)
def test_each_error_of_this_system_has_a_meaning(name: str, failure: ConnectFailure) -> None:
    number = getattr(errno, name)
    error = OSError(number, os.strerror(number))
    assert classify(error) is failure
    assert errno_name(error) == name


@pytest.mark.parametrize(
    ("number", "name", "failure"),
    [
        (10061, "ECONNREFUSED", ConnectFailure.REFUSED),
        (10054, "ECONNRESET", ConnectFailure.RESET),
        (10065, "EHOSTUNREACH", ConnectFailure.UNREACHABLE),
        (10051, "ENETUNREACH", ConnectFailure.UNREACHABLE),
        (10060, "ETIMEDOUT", ConnectFailure.TIMED_OUT),
        (10048, "EADDRINUSE", ConnectFailure.IN_USE),
        (10049, "EADDRNOTAVAIL", ConnectFailure.DUPLICATE),
        (10013, "EACCES", ConnectFailure.DENIED),
        (10024, "EMFILE", ConnectFailure.RESOURCES),
        (10055, "ENOBUFS", ConnectFailure.RESOURCES),
    ],
)
def test_winsock_numbers_mean_and_are_called_the_same(number: int, name: str, failure: ConnectFailure) -> None:
    error = OSError(number, "")
    assert classify(error) is failure
    assert errno_name(error) == name


def test_a_timeout_without_a_number_is_a_timeout() -> None:
    assert classify(TimeoutError()) is ConnectFailure.TIMED_OUT


def test_an_unknown_number_is_shown_as_one() -> None:
    assert classify(OSError(9999, "?")) is ConnectFailure.OTHER
    assert errno_name(OSError(9999, "?")) == "errno 9999"
    assert errno_name(OSError("?")) == "OSError"


def test_a_lookup_failure_does_not_look_like_an_errno() -> None:
    error = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    assert errno_name(error) == "EAI_NONAME"
    assert classify(error) is ConnectFailure.OTHER


def test_the_error_says_where_and_why() -> None:
    failed = ConnectFailedError.of(OSError(errno.ECONNREFUSED, "Connection refused"), REMOTE)
    assert str(failed) == "192.0.2.1:7420: Connection refused (ECONNREFUSED)"
    assert (failed.failure, failed.errno_name, failed.errno) == (
        ConnectFailure.REFUSED,
        "ECONNREFUSED",
        errno.ECONNREFUSED,
    )
    assert classify(failed) is ConnectFailure.REFUSED


def test_the_meaning_we_gave_an_error_stays_with_it() -> None:
    failed = ConnectFailedError.because(ConnectFailure.SELF, errno.EADDRNOTAVAIL, remote=REMOTE)
    assert classify(failed) is ConnectFailure.SELF
