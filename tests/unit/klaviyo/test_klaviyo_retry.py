"""The table: one row per line of it."""

import asyncio
import builtins
import ssl
from unittest.mock import Mock

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.klaviyo.backoff import CAP, backoff, full_jitter
from pipeline.klaviyo.retry import (
    FAILURES,
    Fault,
    Kind,
    classify,
    faults,
    name_failure,
)

ACCEPTED = frozenset({202})
FAULT = Fault("invalid", "/data", "No.", "x")
REVISION = Fault("invalid", "revision", "No.", "x")
WITH, WITHOUT = (FAULT,), ()


@pytest.mark.parametrize(
    ("status", "document", "kind"),
    [
        (202, WITHOUT, "accepted"),
        (200, WITHOUT, "unexpected"),
        (204, WITHOUT, "unexpected"),
        (302, WITHOUT, "unexpected"),
        (400, WITH, "refused"),
        (400, WITHOUT, "unexpected"),
        (400, (REVISION,), "retired"),
        (401, WITH, "unauthorized"),
        (401, WITHOUT, "unauthorized"),
        (402, WITH, "unexpected"),
        (403, WITH, "forbidden"),
        (403, WITHOUT, "forbidden"),
        (404, WITH, "refused"),
        (404, WITHOUT, "unexpected"),
        (405, WITH, "unexpected"),
        (408, WITHOUT, "outage"),
        (409, WITH, "refused"),
        (409, WITHOUT, "unexpected"),
        (410, WITH, "retired"),
        (410, WITHOUT, "retired"),
        (413, WITH, "too_large"),
        (413, WITHOUT, "too_large"),
        (415, WITH, "unexpected"),
        (418, WITH, "unexpected"),
        (422, WITH, "refused"),
        (422, WITHOUT, "unexpected"),
        (429, WITH, "throttled"),
        (429, WITHOUT, "throttled"),
        (500, WITH, "outage"),
        (502, WITHOUT, "outage"),
        (503, WITH, "outage"),
        (504, WITHOUT, "outage"),
        (524, WITHOUT, "outage"),
        (599, WITHOUT, "outage"),
    ],
)
def test_status(status: int, document: tuple[Fault, ...], kind: Kind) -> None:
    assert classify("create_event", status, ACCEPTED, document) == kind


def test_accounts_takes_no_input_of_ours_so_a_400_is_the_credentials() -> None:
    assert classify("get_accounts", 400, frozenset({200}), WITH) == "unauthorized"
    assert classify("get_accounts", 400, frozenset({200}), WITHOUT) == "unexpected"


@pytest.mark.parametrize("status", [404, 409, 413, 422])
def test_accounts_refused_are_not_klaviyos_address(status: int) -> None:
    assert classify("get_accounts", status, frozenset({200}), WITH) == "unexpected"


@given(st.integers(100, 999), st.booleans())
def test_nothing_is_ever_refused_without_klaviyos_own_document(
    status: int,
    document: bool,
) -> None:
    """A dead letter needs Klaviyo's word; only 413 is clear from anybody."""
    kind = classify("create_event", status, ACCEPTED, WITH if document else WITHOUT)
    if kind == "refused":
        assert document


KEY = Mock(ssl=True, host="a.klaviyo.com", port=443)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (TimeoutError(), "timeout"),
        (aiohttp.ServerTimeoutError(), "timeout"),
        (aiohttp.ConnectionTimeoutError(), "timeout"),
        (aiohttp.SocketTimeoutError(), "timeout"),
        (aiohttp.ClientConnectorDNSError(KEY, OSError()), "dns"),
        (aiohttp.ClientConnectorSSLError(KEY, OSError()), "tls"),
        (aiohttp.ClientConnectorCertificateError(KEY, Exception()), "tls"),
        (aiohttp.ServerFingerprintMismatch(b"", b"", "h", 1), "tls"),
        (ssl.SSLError(), "tls"),
        (aiohttp.ClientConnectorError(KEY, OSError()), "connect"),
        (aiohttp.ServerDisconnectedError(), "reset"),
        (aiohttp.ClientOSError(), "reset"),
        (aiohttp.ClientConnectionResetError(), "reset"),
        (aiohttp.ClientConnectionError(), "reset"),
        (aiohttp.ClientPayloadError(), "reset"),
        (ConnectionResetError(), "reset"),
        (BrokenPipeError(), "reset"),
        (OSError(), "connect"),
        (aiohttp.ClientResponseError(Mock(), ()), "protocol"),
        (aiohttp.ClientError(), "protocol"),
        (ValueError(), None),
        (asyncio.CancelledError(), None),
        (MemoryError(), None),
    ],
)
def test_exception(error: BaseException, reason: str | None) -> None:
    assert name_failure(error) == reason


def test_every_line_of_the_table_is_a_class_that_exists() -> None:
    for name in FAILURES:
        assert any(hasattr(place, name) for place in (builtins, aiohttp, ssl)), name


# -- the error document --------------------------------------------------------------


def test_faults_are_read_with_their_place() -> None:
    body = b"""{"errors":[
      {"id":"1","status":409,"code":"duplicate_profile","title":"Conflict.","detail":"d",
       "source":{"pointer":"/data/attributes"},"meta":{"duplicate_profile_id":"01K"}},
      {"code":"invalid","title":"T","detail":"d","source":{"parameter":"filter"}}]}"""
    assert faults(body) == (
        Fault("duplicate_profile", "/data/attributes", "Conflict.", "d", "01K"),
        Fault("invalid", "filter", "T", "d"),
    )


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"null",
        b"[]",
        b"{}",
        b'{"errors":null}',
        b'{"errors":[]}',
        b'{"errors":["no"]}',
        b'{"errors":[{}]}',
        b'{"errors":[{"code":7}]}',
        b'{"message":"no route"}',
        b'{"errors":' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_what_is_not_klaviyos_error_document(body: bytes) -> None:
    assert faults(body) == ()


@pytest.mark.parametrize(
    "source", ["null", "[]", '"/data"', "7", '{"pointer":7}', '{"pointer":null}']
)
def test_an_odd_source_is_no_reason_to_doubt_the_refusal(source: str) -> None:
    [fault] = faults(b'{"errors":[{"code":"c","source":%s}]}' % source.encode())
    assert fault.pointer == ""


def test_a_fault_shows_no_customer_data() -> None:
    fault = Fault("invalid", "/data/attributes/email", "Invalid.", "ada@shop.dev is bad")
    assert fault.safe == "invalid: Invalid. at /data/attributes/email"
    assert "ada" not in repr(fault)
    assert "ada" not in str([fault])


# -- back-off ------------------------------------------------------------------------


def test_back_off_grows_by_half_up_to_a_minute() -> None:
    steps = [backoff(failures, 0.5) for failures in range(1, 30)]
    assert steps[:4] == pytest.approx([0.5, 0.75, 1.125, 1.6875])
    assert steps == sorted(steps)
    assert steps[-1] == CAP


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_back_off_is_spread_and_bounded(failures: int, chance: float) -> None:
    middle = backoff(failures, 0.5)
    assert middle / 2 <= backoff(failures, chance) <= min(CAP, middle * 1.5)
    assert 0 <= full_jitter(failures, chance) <= middle
