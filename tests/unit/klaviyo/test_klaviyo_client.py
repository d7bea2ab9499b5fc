"""The endpoints, the credential, and the one look that `check` takes."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec
import pytest

from pipeline.klaviyo import held
from pipeline.klaviyo.auth import ApiKey
from pipeline.klaviyo.look import Account, Findings, Standing
from tests.unit.klaviyo.rig import EVENT, PROFILE, Reply, Rig, document
from tests.virtual_time import virtual


@virtual
async def test_each_method_has_its_endpoint() -> None:
    async with Rig() as rig:
        await rig.client.import_profile(PROFILE)
        await rig.client.create_event(EVENT)
        await rig.client.accounts()
        assert [(seen.method, seen.path, seen.body) for seen in rig.seen] == [
            ("POST", "/api/profile-import", PROFILE),
            ("POST", "/api/events", EVENT),
            ("GET", "/api/accounts", b""),
        ]
        assert set(rig.limits.quotas()) == {
            "create_event",
            "create_or_update_profile",
            "get_accounts",
        }


@virtual
async def test_reads_are_encoded_once_and_followed_through_their_pages() -> None:
    def page(cursor: str | None) -> Reply:
        following = f"https://a.klaviyo.com/api/events?page%5Bcursor%5D={cursor}"
        event = {
            "id": f"E-{cursor}",
            "attributes": {"event_properties": None},
            "relationships": {"metric": {"data": {"type": "metric", "id": "M"}}},
        }
        document = {
            "data": [event],
            "included": [{"id": "M", "attributes": {"name": "Placed Order"}}],
            "links": {"next": cursor and following},
        }
        return Reply(200, msgspec.json.encode(document))

    empty = Reply(200, b'{"data":[]}')
    async with Rig(empty, page("a%2Bb"), page(None)) as rig:
        assert await rig.client.profile("email", "a+b@shop.dev") is None
        at = datetime.fromisoformat("2026-11-01T01:00:00.9+02:00")
        assert await rig.client.events("01J", at) == [
            held.Event("E-a%2Bb", "Placed Order", {}),
            held.Event("E-None", "Placed Order", {}),
        ]
        events = (
            "/api/events?filter=equals%28profile_id%2C%2201J%22%29%2C"
            "greater-or-equal%28datetime%2C2026-10-31T23%3A00%3A00Z%29%2C"
            "less-than%28datetime%2C2026-10-31T23%3A00%3A01Z%29"
            "&include=metric&sort=datetime"
        )
        assert [seen.path for seen in rig.seen] == [
            "/api/profiles?filter=equals%28email%2C%22a%2Bb%40shop.dev%22%29",
            events,
            f"{events}&page%5Bcursor%5D=a%2Bb",
        ]


@pytest.mark.parametrize("status", [401, 403, 404, 500])
@virtual
async def test_a_read_that_fails_halts_nothing_and_is_not_repeated(status: int) -> None:
    async with Rig(document(status=status), document(status=status)) as rig:
        at = datetime(2026, 11, 1, tzinfo=UTC)
        assert isinstance(await rig.client.profile("email", "a@b.dev"), held.Unread)
        assert isinstance(await rig.client.events("01J", at), held.Unread)
        assert len(rig.seen) == 2
        assert not rig.health.halted


@virtual
async def test_served_follows_the_answers() -> None:
    async with Rig(revision="2023-10-15") as rig:
        assert rig.client.served == "2025-01-15"
        await rig.client.accounts()
        assert rig.client.served == "2026-07-15"


@virtual
async def test_an_address_where_klaviyo_is_not_is_named_until_there_is_an_account() -> (
    None
):
    async with Rig() as rig:
        rig.always = lambda _: document(status=404)
        asking = asyncio.create_task(rig.client.accounts())
        await asyncio.sleep(60)
        assert not asking.done()
        said = rig.health.waits()["klaviyo"]
        assert f"get_accounts fails at {rig.url}" in said
        assert "klaviyo.api_url" in said
        rig.always = lambda _: Reply()
        assert await asking == Account("AbCdEf")
        assert rig.health.waits() == {}


@pytest.mark.parametrize("body", [b'{"data":[]}', b'{"data":{"id":"A"}}', b"<html>"])
@virtual
async def test_an_answer_without_an_account_is_not_klaviyos(body: bytes) -> None:
    async with Rig(Reply(200, body)) as rig:
        assert await rig.client.accounts() == Account("AbCdEf")
        assert len(rig.seen) == 2


# -- probe ---------------------------------------------------------------------------


@virtual
async def test_a_good_look() -> None:
    async with Rig(revision="2023-10-15") as rig:
        found = await rig.client.look.probe()
        assert found.ahead is not None
        assert abs(found.ahead) < 3600  # the clocks are of one machine
        assert msgspec.structs.replace(found, ahead=None) == Findings(
            standing="ok",
            message="",
            account=Account("AbCdEf"),
            asked="2023-10-15",
            served="2026-07-15",
            stage="retired",
            retires="2025-10-15",
            served_retires="2028-07-15",
            milestone=23,
            quotas={"get_accounts": (1000, 60_000)},
        )


@pytest.mark.parametrize(
    ("reply", "standing", "says"),
    [
        (Reply(401), "unauthorized", "401"),
        (document(), "unauthorized", "400"),
        (Reply(403), "forbidden", "accounts:read"),
        (Reply(410), "revision_retired", "410"),
        (Reply(429), "unreachable", "429"),
        (Reply(503), "unreachable", "503"),
        (document(status=404), "unreachable", "invalid: No."),
        (Reply(200, b"<html>"), "unreachable", "unexpected answer 200"),
        (Reply(raw=b""), "unreachable", "reset"),
        (Reply(delay=1000), "unreachable", "in time"),
    ],
)
@virtual
async def test_a_bad_look_ends_too(reply: Reply, standing: Standing, says: str) -> None:
    async with Rig(reply) as rig:
        findings = await rig.client.look.probe()
        assert findings.standing == standing
        assert says in findings.message
        assert findings.account is None
        assert len(rig.seen) == 1
        assert asyncio.get_running_loop().time() <= 15
        assert not rig.health.halted
        assert rig.limits.family("get_accounts")._in_flight == 0


@virtual
async def test_a_look_while_the_family_is_paused_does_not_wait_for_ever() -> None:
    async with Rig(Reply(429, b"", {"Retry-After": "600"})) as rig:
        await rig.client.look.probe()
        assert (await rig.client.look.probe(5)).standing == "unreachable"
        assert len(rig.seen) == 1


def test_findings_hold_no_secret() -> None:
    assert not {"key", "credential", "authorization"} & {
        field.name for field in msgspec.structs.fields(Findings)
    }


# -- credential ----------------------------------------------------------------------


@virtual
async def test_the_key_is_read_for_each_attempt_and_hidden() -> None:
    keys = iter(["pk_a", "pk_b"])
    credential = ApiKey(lambda: next(keys))
    assert await credential.authorization() == "Klaviyo-API-Key pk_a"
    assert await credential.authorization() == "Klaviyo-API-Key pk_b"
    assert repr(credential) == "ApiKey(***)"


def counted(values: list[str]) -> tuple[Callable[[], str], list[float]]:
    looks: list[float] = []

    def read() -> str:
        looks.append(asyncio.get_running_loop().time())
        return values[0]

    return read, looks


@virtual
async def test_a_changed_key_is_noticed_within_a_second() -> None:
    values = ["pk_a"]
    read, looks = counted(values)
    credential = ApiKey(read)
    await credential.authorization()
    waiting = asyncio.create_task(credential.wait_changed())
    await asyncio.sleep(10.5)
    assert not waiting.done()
    assert len(looks) <= 12  # once a second, not more
    values[0] = "pk_b"
    await waiting
    assert asyncio.get_running_loop().time() <= 11.5
