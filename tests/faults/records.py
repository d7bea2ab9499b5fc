"""Records that are bad, large, empty, strange or sent twice."""

import json
from dataclasses import replace
from typing import Any, cast

from confluent_kafka import Message
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from pipeline.demo.shop import Made
from tests.faults.scenario import fault
from tests.faults.world import Shift, World, errors, eventually
from tests.flow.test_dead_letters import BAD


def customer(who: str, kind: str = "customer.updated", **fields: Any) -> Made:
    value = json.dumps({"type": kind, "customer": {"id": who, **fields}}).encode()
    return Made("shop.customers", who.encode(), value)


def headers(letter: Message) -> dict[str, str]:
    """Those of a dead letter, as text."""
    found = dict(letter.headers() or [])
    return {
        name: value.decode() if isinstance(value, bytes) else str(value)
        for name, value in found.items()
    }


def known(shift: Shift) -> set[str]:
    """External ids that Klaviyo holds."""
    found = {p.identifiers.get("external_id") for p in shift.sandbox.state.profiles}
    return {each for each in found if each}


@fault(21, "Klaviyo refuses one order among 1,500 and does not say which", "I1 I5")
async def one_refused(world: World) -> str:
    async with world.shift(seed=121) as shift:
        nobody = {
            "errors": [{"id": "1", "status": 400, "code": "invalid", "title": "No"}]
        }
        shift.fault(
            {
                "match": {"method": "POST", "contains": "O-bad"},
                "action": {"kind": "status", "status": 400, "body": nobody},
            }
        )
        day = [*shift.shop.day(50, 1500)]
        who = {"id": "C-7", "email": shift.shop.profiles["C-7"]["email"]}
        order = {"id": "O-bad", "currency": "USD", "total": "1", "customer": who}
        bad = json.dumps({"type": "order.placed", "order": order}).encode()
        day.insert(len(day) // 2, Made("shop.orders", b"C-7", bad))
        shift.shop.dead[b"C-7"] = "refused"
        await shift.send(day)
        async with shift.service() as service:
            await shift.done(service)
        return await shift.balance()


@fault(
    22, "poison: no JSON, too deep, NaN, 900 KB, bad UTF-8, keys twice", "I1", quick=True
)
async def poison(world: World) -> str:
    more = {
        "large": b'{"type":"customer.updated","customer":{"id":"' + b"x" * 900_000,
        "empty": b"",
        "zeros": bytes(5),
    }
    poisons = {name: value for name, (value, _, _) in BAD.items()} | more
    async with world.shift(seed=122) as shift:
        twice = b'{"type":"customer.updated","customer":{"id":"C-x","id":"twice"}}'
        records = [customer("good-0"), Made("shop.customers", b"twice", twice)]
        for name, value in poisons.items():
            records += [Made("shop.customers", name.encode(), value), customer(name)]
        await shift.send(records)
        async with shift.service() as service:
            await shift.done(service)
        letters = await shift.read_dead_letters(len(poisons))
        keys = sorted((letter.key() or b"").decode() for letter in letters)
        assert keys == sorted(poisons), keys
        assert known(shift) == {"good-0", "twice", *poisons}
        return f"{len(poisons)} poisons, each one dead letter, its neighbours delivered"


@fault(
    23, "above Klaviyo's 100 KB, and above what dead letters take", "I1 I5", quick=True
)
async def huge(world: World) -> str:
    async with world.shift(seed=123) as shift:
        dead = NewTopic(
            f"small-{shift.number}", 1, 1, config={"max.message.bytes": "20480"}
        )
        admin = AdminClient({"bootstrap.servers": shift.bootstrap})
        (made,) = admin.create_topics([dead]).values()
        made.result(20)
        fields = {f"note {n}": "x" * 30_000 for n in range(5)}
        big = customer("big", email="big@shop.dev", first_name=5, custom_fields=fields)
        lighter = customer("lighter", email="l@shop.dev", custom_fields=fields)
        await shift.send([customer("before"), big, lighter, customer("after")])
        async with shift.service(topics__dead_letters=dead.topic) as service:
            await shift.done(service)
            assert not errors(service), errors(service)
        shift.dead = dead.topic
        (letter,) = await shift.read_dead_letters(1)
        said = headers(letter)
        assert int(said["klaviyo.truncated"]) == len(big.value or b"")
        assert said["__connect.errors.topic"] == shift.customers
        assert said["__connect.errors.offset"].isdigit()
        assert {"before", "lighter", "after"} <= known(shift)
        sizes = f"{len(big.value or b'')} bytes cut to {len(letter.value() or b'')}"
        return f"{said['klaviyo.reason']}: {sizes}, and where to find it"


@fault(24, "tombstones, and records without key", "I1", quick=True)
async def tombstones(world: World) -> str:
    async with world.shift(seed=124) as shift:
        records = [customer(f"C-{n}", email=f"c{n}@shop.dev") for n in range(20)]
        keyless = [replace(each, key=cast(bytes, None)) for each in records[:10]]
        gone = [Made("shop.customers", b"C-%d" % n, None) for n in range(5)]
        bare = Made("shop.customers", cast(bytes, None), None)
        await shift.send([*keyless, *records[10:], *gone, bare])
        async with shift.service() as service:
            await shift.drained()
            counted = await service.metric("skipped_total", {"reason": "tombstone"})
            ignored = await service.metric("skipped_total", {"reason": "deletes_ignored"})
            await shift.done(service)
        assert len(known(shift)) == 20
        assert counted + ignored == len(gone) + 1, (counted, ignored)
        return f"20 delivered, {counted + ignored:.0f} tombstones counted and skipped"


@fault(25, "upstream changes its schema: additive, then breaking", "I1 I5")
async def drift(world: World) -> str:
    async with world.shift(seed=125) as shift:
        new: dict[str, Any] = {"loyalty": {"level": 3}, "nickname": "x"}
        good = [customer(f"new-{n}", **new) for n in range(50)]
        wrong = [customer(f"w-{n}", email=5) for n in range(10)]
        mixed = [each for pair in zip(good[:10], wrong, strict=True) for each in pair]
        await shift.send([*mixed, *good[10:]])
        limit = 30
        async with shift.service(deliver__malformed_limit=str(limit)) as service:
            await shift.drained()
            assert await service.metric("dead_letters_total", {"reason": "schema"}) == 10
            # Now all of them: a deploy went wrong, so the line stops.
            await shift.send(customer(f"v-{n}", email=5) for n in range(200))

            async def halted() -> bool:
                return await service.metric("halted", {"reason": "malformed_flood"}) == 1

            await eventually(halted, "the line stops")
            assert (await service.get("/livez"))[0] == 200
            dead = await service.metric("dead_letters_total")
            assert await service.terminate() == 0
        assert dead < 10 + limit
        assert await shift.lag() >= 200 - limit
        assert known(shift) == {f"new-{n}" for n in range(50)}
        halted_after = f"the line stops after {dead - 10:.0f} in a row"
        return f"additive passes, 10 single faults are dead letters, {halted_after}"


@fault(26, "the topic of dead letters does not exist, then is made", "I1 I5")
async def unwritable(world: World) -> str:
    async with world.shift(seed=126) as shift:
        topic = f"late-{shift.number}"
        own = {"topics__dead_letters": topic, "topics__create": "false"}
        await shift.send([customer("before"), Made("shop.customers", b"k", b"bad")])
        async with shift.service(**own) as service:
            halt = {"reason": "dead_letters_unwritable"}

            async def halted() -> bool:
                return await service.metric("halted", halt) == 1

            await eventually(halted, "it halts")
            assert (await service.get("/readyz"))[0] == 503
            assert await shift.lag() >= 1, "committed past a dead letter nobody has"
            admin = AdminClient({"bootstrap.servers": shift.bootstrap})
            (made,) = admin.create_topics([NewTopic(topic, 1, 1)]).values()
            made.result(20)
            await shift.send([customer("after")])
            await shift.done(service)
        assert known(shift) == {"before", "after"}
        shift.dead = topic
        assert len(await shift.read_dead_letters(1)) == 1
        return "halted, nothing committed past it; went on by itself with one dead letter"


@fault(34, "upstream sends everything twice", "one effect each")
async def twice(world: World) -> str:
    async with world.shift(seed=134) as shift:
        day = [*shift.shop.day(100, 300)]
        await shift.send([*day, *day])
        async with shift.service() as service:
            await shift.done(service)
        return await shift.balance()
