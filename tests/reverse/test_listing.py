"""What Klaviyo's listing does to a poller, in virtual time; each change comes back once.

Source of the behaviour: GET /api/profiles, its filters and what was seen of it.
"""

import msgspec
import pytest
from structlog.testing import capture_logs

from pipeline.sandbox.faults import Rule
from tests.reverse.virtual import Virtual, inline
from tests.virtual_time import virtual


@pytest.fixture(autouse=True)
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    inline(monkeypatch)


@virtual
async def test_each_change_once_with_its_kind() -> None:
    async with Virtual(sweep_interval=600) as world:
        state = world.sandbox.state
        second = state.clock.now() - 500
        same = [world.make(f"same{number}", at=second) for number in range(250)]
        names = ("reader", "bounced", "source", "target", "gone")
        people = {name: world.make(name) for name in names}
        people["source"].fields["title"] = "Dr"  # the merge moves it
        people["reader"].consent.subscribe("email.marketing", state.clock.now())
        world.start()
        await world.pass_(60)
        assert world.kinds() == {p.id: ["created"] for p in (*same, *people.values())}
        # Listed 45 s after it was made.
        world.sandbox.settings = world.sandbox.settings.changed({"index_delay": 45})
        late = world.make("late")
        world.edit(same[0], title="late as well")
        world.sandbox.settings = world.sandbox.settings.changed({"index_delay": 0})
        now = state.clock.now()
        people["reader"].consent.unsubscribe("email.marketing", now)  # `updated` stays
        people["bounced"].consent.suppressions["HARD_BOUNCE"] = now
        state.profiles.version += 1
        await world.pass_(100)
        kinds = world.kinds()
        assert kinds[late.id] == ["created"]
        assert kinds[same[0].id] == ["created", "updated"]
        assert kinds[people["reader"].id] == ["created", "updated"]
        assert kinds[people["bounced"].id] == ["created", "updated"]
        assert world.metrics.reverse_found_late._value.get() == 0  # by the polls alone
        state.profiles.merge(people["source"], people["target"], state.clock.now())
        state.profiles.delete(people["gone"])
        await world.pass_(1300)
        await world.end()
    kinds = world.kinds()
    assert kinds[people["source"].id] == ["created", "deleted"]
    assert kinds[people["target"].id] == ["created", "updated"]
    assert kinds[people["gone"].id] == ["created", "deleted"]
    assert sum(map(len, kinds.values())) == 250 + 1 + 10 + 1


@virtual
async def test_rows_that_move_while_pages_are_read() -> None:
    async with Virtual() as world:
        past = world.sandbox.state.clock.now() - 3000
        people = [world.make(f"p{n}", at=past + n // 10) for n in range(350)]
        world.sandbox.settings = world.sandbox.settings.changed({"latency": 2.0})
        world.start()
        while not world.topics.messages:
            await world.pass_(0.5)
        assert 0 < len(world.topics.messages) < 350
        world.edit(people[0], title="behind")
        world.edit(people[349], title="ahead")
        await world.pass_(600)
        await world.end()
    kinds = world.kinds()
    assert len(kinds) == 350
    assert kinds[people[0].id] == ["created", "updated"]
    last = [m for m in world.topics.messages if m["profile"]["id"] == people[349].id]
    assert last[-1]["profile"]["title"] == "ahead"


@virtual
async def test_pages_too_large_are_asked_for_in_pieces() -> None:
    async with Virtual() as world:
        past = world.sandbox.state.clock.now() - 3000
        for number in range(230):
            size = 5_000_000 if 100 <= number < 106 else 10
            profile = world.make(f"p{number}", at=past + number)
            profile.properties["huge"] = "x" * size
        world.start()
        await world.pass_(120)
        await world.end()
    assert len(world.kinds()) == 230
    assert world.metrics.degraded_fields.labels("properties")._value.get() == 6


@pytest.mark.parametrize("ahead", [-3600, 3600])
def test_clocks_an_hour_apart(ahead: int) -> None:
    @virtual
    async def test() -> None:
        async with Virtual() as world:
            world.ahead = ahead
            ada = world.make("ada")
            world.start()
            for number in range(3):
                await world.pass_(40)
                world.edit(ada, title=f"{number}")
            await world.pass_(40)
            await world.end()
        assert world.kinds() == {ada.id: ["created"] + ["updated"] * 3}

    test()


@virtual
async def test_a_date_that_jumps_an_hour_ahead_skips_nothing() -> None:
    async with Virtual(sweep_interval=1e6) as world:
        ada = world.make("ada")
        world.start()
        await world.pass_(45)
        world.ahead = 3600
        await world.pass_(15)
        world.ahead = 0
        for number in range(20):
            world.edit(ada, title=f"{number}")
            await world.pass_(30)
        await world.end()
    assert world.kinds() == {ada.id: ["created"] + ["updated"] * 20}


@virtual
async def test_a_profile_dated_in_the_future_is_said_once_and_stalls_nobody() -> None:
    async with Virtual() as world:
        ahead = world.make("ahead", at=world.sandbox.state.clock.now() + 86_400)
        ada = world.make("ada")
        world.start()
        await world.pass_(60)
        world.edit(ada, title="Dr")
        await world.pass_(60)
        await world.end()
    kinds = world.kinds()
    assert kinds[ada.id] == ["created", "updated"]
    assert kinds[ahead.id] == ["created"]  # by the reading of all


@virtual
async def test_kafka_away_for_ten_minutes() -> None:
    async with Virtual() as world:
        people = [world.make(f"p{number}") for number in range(150)]
        world.start()
        await world.pass_(60)
        world.topics.away = True
        for number in range(20):
            world.edit(people[number], title="while it was away")
            await world.pass_(30)
            assert "reverse" in world.health.waits()
            assert not world.health.stuck()
        world.topics.away = False
        await world.pass_(60)
        assert world.health.waits() == {}
        await world.end()
    kinds = world.kinds()
    assert [kinds[p.id] for p in people[:20]] == [["created", "updated"]] * 20
    assert sum(map(len, kinds.values())) == 170


@virtual
async def test_klaviyo_away_for_ten_minutes_is_no_hung_loop() -> None:
    async with Virtual() as world:
        ada = world.make("ada")
        world.start()
        await world.pass_(60)
        rule = {
            "match": {"method": "GET", "path": "/api/profiles"},
            "action": {"kind": "status", "status": 503},
        }
        world.sandbox.faults.add(msgspec.convert(rule, Rule))
        world.edit(ada, title="Dr")
        await world.pass_(600)
        assert not world.health.stuck()
        world.sandbox.faults.clear()
        await world.pass_(60)
        await world.end()
    assert world.kinds() == {ada.id: ["created", "updated"]}


@virtual
async def test_a_hung_loop_is_seen() -> None:
    async with Virtual() as world:
        world.make("ada")
        world.start()
        await world.pass_(60)
        assert not world.health.stuck()
        world.topics.hung = True
        world.make("bea")
        await world.pass_(200)
        assert [text for text in world.health.stuck() if text.startswith("reverse")]
        await world.end()  # also then


@virtual
async def test_all_gone_at_once_is_doubted_first() -> None:
    async with Virtual(sweep_interval=600) as world:
        people = [world.make(f"p{number}") for number in range(1100)]
        world.start()
        await world.pass_(120)
        for profile in people[1:]:
            world.sandbox.state.profiles.delete(profile)
        await world.pass_(650)
        assert "missing profiles" in world.health.waits()
        assert set(map(tuple, world.kinds().values())) == {("created",)}
        await world.pass_(700)
        assert world.health.waits() == {}
        await world.end()
    kinds = world.kinds()
    assert kinds.pop(people[0].id) == ["created"]
    assert set(map(tuple, kinds.values())) == {("created", "deleted")}


@virtual
async def test_a_catch_up_is_said_and_an_outage_is_none() -> None:
    def said() -> bool:
        return "catching up" in [line["event"] for line in lines]

    with capture_logs() as lines:
        async with Virtual(sweep_interval=1e6) as world:
            for number in range(600):
                world.make(f"p{number}")
            slow = world.sandbox.settings.changed({"latency": 8.0})
            world.sandbox.settings, fast = slow, world.sandbox.settings
            world.start()
            await world.pass_(200)
            assert said(), lines
            world.sandbox.settings = fast
            await world.pass_(60)
            lines.clear()
            action = {"kind": "status", "status": 503}
            rule = {"match": {"seconds": 60}, "action": action}
            world.sandbox.faults.add(msgspec.convert(rule, Rule))
            await world.pass_(120)
            await world.end()
    assert "waiting" in [line["event"] for line in lines]
    assert not said()
