"""A call's way through retry, limit, metrics, auth, wire; with a scripted server."""

import asyncio
import gzip

import aiohttp
import pytest
from structlog.testing import capture_logs
from yarl import URL

from pipeline.klaviyo.call import Accepted, Refused
from pipeline.klaviyo.look import Account
from tests.unit.klaviyo.fixed_windows import gaps
from tests.unit.klaviyo.rig import EVENT, PROFILE, Reply, Rig, document
from tests.virtual_time import virtual

PORTAL = Reply(200, b"<html>Please log in</html>", {"Content-Type": "text/html"})


def now() -> float:
    return asyncio.get_running_loop().time()


@virtual
async def test_what_is_sent() -> None:
    async with Rig() as rig:
        assert await rig.client.create_event(EVENT) == Accepted(202, b"", 1)
        [seen] = rig.seen
        assert (seen.method, seen.path, seen.body) == ("POST", "/api/events", EVENT)
        assert seen.headers["Authorization"] == "Klaviyo-API-Key pk_right"
        assert seen.headers["revision"] == "2026-07-15"
        assert seen.headers["Accept"] == "application/vnd.api+json"
        assert seen.headers["Content-Type"] == "application/vnd.api+json"
        assert seen.headers["User-Agent"] == "klaviyo-pipeline/0.1.0 (v1.0)"
        assert "X-Klaviyo-Revision-Fall-Forward-Opt-Out" not in seen.headers
        assert rig.number("api_responses_total", operation="create_event", status="202")
        assert rig.number(
            "api_request_seconds_count", operation="create_event", status_class="2xx"
        )
        assert rig.number("throttle_wait_seconds_count", operation="create_event")
        assert rig.number("quota_used_ratio", operation="create_event", window="burst")


@virtual
async def test_strict_opts_out_of_falling_forward() -> None:
    async with Rig(strict=True) as rig:
        await rig.client.create_event(EVENT)
        assert rig.seen[0].headers["X-Klaviyo-Revision-Fall-Forward-Opt-Out"] == "1"


@virtual
async def test_the_account_behind_the_credential() -> None:
    contact = b'{"contact_information":{"organization_name":"S"}}'
    name = b'{"data":[{"id":"A","attributes":%s}]}' % contact
    async with Rig(Reply(), Reply(200, name)) as rig:
        assert await rig.client.accounts() == Account("AbCdEf", None)
        assert await rig.client.accounts() == Account("A", "S")
        assert "Content-Type" not in rig.seen[0].headers


@virtual
async def test_an_answer_that_quotes_the_credential_tells_it_nobody() -> None:
    quoted = "Klaviyo-API-Key pk_right"
    words = dict.fromkeys(("code", "title", "detail"), quoted)
    refusal = document({**words, "source": {"pointer": f"/{quoted}"}})
    async with Rig(refusal) as rig:
        answer = await rig.client.create_event(EVENT)
    assert isinstance(answer, Refused)
    (fault,) = answer.faults
    assert "pk_right" not in str([fault.code, fault.title, fault.detail, fault.pointer])
    assert fault.title == "Klaviyo-API-Key ***"


@pytest.mark.parametrize("status", [400, 404, 409, 422])
@virtual
async def test_a_refusal_comes_back_with_its_faults(status: int) -> None:
    fault = {
        "code": "duplicate_profile",
        "title": "Conflict.",
        "detail": "ada@shop.dev is taken",
        "source": {"pointer": "/data/attributes/email"},
        "meta": {"duplicate_profile_id": "01K"},
    }
    async with Rig(document(fault, {}, status=status)) as rig:
        answer = await rig.client.import_profile(PROFILE)
        assert isinstance(answer, Refused)
        assert (answer.status, answer.attempts, len(answer.faults)) == (status, 1, 2)
        first = answer.faults[0]
        assert first.safe == "duplicate_profile: Conflict. at /data/attributes/email"
        assert first.duplicate_profile_id == "01K"
        assert "ada" not in repr(answer)
        assert len(rig.seen) == 1


@virtual
async def test_too_large_comes_back_without_a_document_too() -> None:
    """A proxy in front of Klaviyo says it as well, and repeating cannot help."""
    async with Rig(Reply(413, b"<html>")) as rig:
        assert await rig.client.create_event(EVENT) == Refused(413, (), 1)


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (Reply(500), "outage"),
        (Reply(502, b"<html>"), "outage"),
        (document(status=503), "outage"),
        (Reply(524), "outage"),
        (Reply(408), "outage"),
        (Reply(400, b"<html>"), "unexpected"),
        (Reply(400, b'{"errors":[]}'), "unexpected"),
        (Reply(404, b'{"message":"no route"}'), "unexpected"),
        (document(status=405), "unexpected"),
        (document(status=415), "unexpected"),
        (Reply(200, b'{"data":{"id":"1"}}'), "unexpected"),
        (PORTAL, "unexpected"),
        (Reply(302, b"", {"Location": "/elsewhere"}), "unexpected"),
        (Reply(raw=b""), "reset"),
        (Reply(raw=b"HTTP/1.1 202 Acc"), "reset"),
        (Reply(raw=b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\nhalf"), "reset"),
        (Reply(raw=b"SSH-2.0-whatever\r\n\r\n"), "protocol"),
        (Reply(delay=1000), "timeout"),
    ],
)
@virtual
async def test_what_is_not_klaviyos_word_is_tried_again(
    reply: Reply, reason: str
) -> None:
    async with Rig(reply, reply) as rig:
        assert await rig.client.create_event(EVENT) == Accepted(202, b"", 3)
        assert [each.path for each in rig.seen] == ["/api/events"] * 3
        assert (
            rig.number("api_retries_total", operation="create_event", reason=reason) == 2
        )
        if not reply.delay:
            assert gaps(rig.times()) == pytest.approx([0.5, 0.75], abs=0.01)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"data":null}', b'{"data":{"id":5}}', b"\xff"],
)
@virtual
async def test_a_profile_counts_as_stored_only_with_its_id(body: bytes) -> None:
    async with Rig(Reply(200, body)) as rig:
        answer = await rig.client.import_profile(PROFILE)
        assert isinstance(answer, Accepted)
        assert (answer.status, answer.attempts) == (201, 2)


@virtual
async def test_an_endless_answer_is_cut_off() -> None:
    """16 MiB are enough; a gzip bomb of a hundred times that must not fill the memory."""
    bomb = Reply(
        202, gzip.compress(bytes(200 * 1024 * 1024), 9), {"Content-Encoding": "gzip"}
    )
    async with Rig(bomb) as rig:
        assert (await rig.client.create_event(EVENT)).attempts == 2
        assert rig.number(
            "api_retries_total", operation="create_event", reason="oversize"
        )


@virtual
async def test_a_silent_server_times_out_and_others_go_on() -> None:
    async with Rig(Reply(), Reply(delay=1000)) as rig:
        await rig.client.create_event(EVENT)
        slow = asyncio.create_task(rig.client.create_event(EVENT))
        await asyncio.sleep(1)
        await rig.client.create_event(EVENT)
        assert now() == pytest.approx(1, abs=0.1)
        assert (await slow).attempts == 2
        assert now() == pytest.approx(20.5, abs=0.5)  # 20 s of silence, then back-off


@virtual
async def test_a_dripping_answer_ends_after_30_s() -> None:
    async with Rig() as rig:
        drip = asyncio.create_task(_drip(rig))
        await drip


async def _drip(rig: Rig) -> None:
    """Serve one byte a second from a socket of its own, then nothing but good answers."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"\r\n\r\n")
        try:
            if connections == 1:
                writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 500\r\n\r\n")
                for _ in range(500):
                    writer.write(b"x")
                    await asyncio.sleep(1)
            writer.write(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        rig.session._wire._base = f"http://{host}:{port}"
        assert (await rig.client.create_event(EVENT)).attempts == 2
        assert now() == pytest.approx(30.5, abs=0.1)


@virtual
async def test_a_dropped_get_is_sent_again_by_us_only() -> None:
    """aiohttp repeats a GET by itself on a kept connection: two calls, one permit."""
    async with Rig(Reply(), Reply(raw=b"")) as rig:
        await rig.client.accounts()
        await rig.client.accounts()
        assert len(rig.seen) == 3
        assert rig.number("api_retries_total", operation="get_accounts", reason="reset")


@virtual
async def test_cookies_are_not_kept() -> None:
    async with Rig() as rig:
        # A jar that keeps cookies would not keep those of an IP address either, so no
        # request can show it.
        assert isinstance(rig.session._wire._session, aiohttp.ClientSession)
        jar = rig.session._wire._session.cookie_jar
        jar.update_cookies({"a": "b"}, URL("https://a.klaviyo.com"))
        assert not jar.filter_cookies(URL("https://a.klaviyo.com"))


@virtual
async def test_a_429_is_waited_out_by_the_whole_family_with_one_probe() -> None:
    async with Rig(Reply()) as rig:
        await rig.client.create_event(EVENT)
        rig.script = [Reply(429, b"", {"Retry-After": "9"}) for _ in range(10)]
        answers = await asyncio.gather(
            *(rig.client.create_event(EVENT) for _ in range(30))
        )
        assert all(isinstance(answer, Accepted) for answer in answers)
        times = rig.times()[1:]
        assert len(times) == 40  # the ten that were in flight, and each once
        assert all(at < 1 for at in times[:10])
        assert times[10] == pytest.approx(9, abs=0.1)
        assert (
            rig.number("api_retries_total", operation="create_event", reason="throttled")
            == 10
        )


@virtual
async def test_other_operations_do_not_wait_for_a_429() -> None:
    async with Rig(Reply(429, b"", {"Retry-After": "60"})) as rig:
        event = asyncio.create_task(rig.client.create_event(EVENT))
        await asyncio.sleep(0.1)
        await rig.client.import_profile(PROFILE)
        assert now() < 1
        await event


@virtual
async def test_a_lasting_outage_is_named_once_and_ends_by_itself() -> None:
    async with Rig() as rig:
        rig.always = lambda _: Reply(503) if now() < 60 else Reply()
        calls = [asyncio.create_task(rig.client.create_event(EVENT)) for _ in range(20)]
        await asyncio.sleep(2)
        assert rig.health.waits() == {}  # not every hiccup is an incident
        await asyncio.sleep(18)
        assert "create_event" in rig.health.waits()["klaviyo"]
        assert not rig.health.halted
        await asyncio.gather(*calls)
        assert rig.health.waits() == {}
        assert len(rig.seen) < 60  # the closed gate lets only probes through


@virtual
async def test_a_long_pause_is_named_at_once() -> None:
    async with Rig(Reply(429, b"", {"Retry-After": "30"})) as rig:
        call = asyncio.create_task(rig.client.create_event(EVENT))
        await asyncio.sleep(1)
        assert "throttled" in rig.health.waits()["klaviyo"]
        await call
        assert rig.health.waits() == {}


@virtual
async def test_an_outage_nobody_waits_for_any_more_is_over_without_a_word() -> None:
    async with Rig() as rig:
        rig.always = lambda _: Reply(503)
        call = asyncio.create_task(rig.client.create_event(EVENT))
        await asyncio.sleep(30)
        assert rig.health.waits()
        with capture_logs() as logs:
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        assert rig.health.waits() == {}
        assert logs == []  # nobody knows that it is back


@virtual
async def test_no_connection_is_an_outage() -> None:
    async with Rig() as rig:
        await rig._runner.cleanup()
        call = asyncio.create_task(rig.client.create_event(EVENT))
        await asyncio.sleep(30)
        assert rig.health.waits()
        assert rig.number("api_retries_total", operation="create_event", reason="connect")
        assert rig.number("api_responses_total", operation="create_event", status="none")
        call.cancel()


@virtual
async def test_waiting_for_a_connection_is_not_the_servers_time() -> None:
    """Forty calls on one connection, each 2 s: none of them times out."""
    async with Rig(connections=1) as rig:
        rig.always = lambda _: Reply(delay=2)
        answers = await asyncio.gather(
            *(rig.client.create_event(EVENT) for _ in range(40))
        )
        assert [answer.attempts for answer in answers] == [1] * 40
        assert min(gaps(rig.times())) >= 2


@virtual
async def test_an_endpoint_that_hangs_does_not_take_the_last_connection() -> None:
    async with Rig(connections=2) as rig:
        rig.always = lambda seen: Reply(delay=20 if seen.body == EVENT else 0)
        hanging = [asyncio.create_task(rig.client.create_event(EVENT)) for _ in range(3)]
        await asyncio.sleep(1)
        async with asyncio.timeout(5):
            await rig.client.import_profile(b"{}")
        for task in hanging:
            task.cancel()


@virtual
async def test_a_call_cancelled_before_it_was_sent_takes_no_slot() -> None:
    async with Rig(Reply(), Reply(delay=5), connections=1) as rig:
        await rig.client.create_event(EVENT)
        first = asyncio.create_task(rig.client.create_event(EVENT))
        await asyncio.sleep(1)
        second = asyncio.create_task(rig.client.create_event(EVENT))
        await asyncio.sleep(1)
        used = rig.limits.family("create_event").used(60)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert rig.limits.family("create_event").used(60) < used
        await first


@virtual
async def test_a_permit_acquired_before_is_the_one_used() -> None:
    async with Rig() as rig:
        await rig.client.ready("create_event")
        permit = await rig.client.acquire("create_event")
        await rig.client.create_event(EVENT, permit)
        assert rig.limits.family("create_event").used(60) == 1 / 60_000
        waits = "throttle_wait_seconds_count"
        assert rig.number(waits, operation="create_event") == 1


@virtual
async def test_the_wait_before_composing_counts_as_throttle_wait() -> None:
    async with Rig(Reply(headers={"RateLimit-Limit": "1, 1;w=1, 60;w=60"})) as rig:
        await rig.client.create_event(EVENT)
        await rig.client.ready("create_event")
        (await rig.client.acquire("create_event")).unused()
        waited = rig.number("throttle_wait_seconds_sum", operation="create_event")
        assert waited == pytest.approx(1, abs=0.01)


@virtual
async def test_a_bug_is_not_an_outage() -> None:
    """What is no failure of the network surfaces, and the permit is not lost."""
    async with Rig() as rig:
        http, rig.session._wire._session = rig.session._wire._session, None
        with pytest.raises(RuntimeError):
            await rig.client.create_event(EVENT)
        rig.session._wire._session = http
        assert rig.limits.family("create_event")._in_flight == 0


@virtual
async def test_no_secret_and_no_customer_in_any_repr() -> None:
    async with Rig() as rig:
        answer = await rig.client.import_profile(b'{"email":"ada@shop.dev"}')
        texts = [repr(answer), repr(rig.session), repr(rig.client), repr(rig.limits)]
        assert not any("pk_right" in text or "01J" in text for text in texts)
