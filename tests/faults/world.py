"""What all scenarios share (brokers), and what each has for itself (a `Shift`)."""

import asyncio
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from confluent_kafka import KafkaException, Producer

from pipeline.demo.proof import Stored, compare, fetch, read_dead_letters
from pipeline.demo.shop import Made, Shop
from pipeline.sandbox import Sandbox
from tests.brokers.apache import Apache, Unavailable, find
from tests.faults.proxy import Proxy
from tests.faults.scenario import NotRun
from tests.flow.rig import Rig
from tests.flow.service import Service

__all__ = ["Planted", "Shift", "World", "calm", "errors", "eventually", "hold", "running"]

REAUTHENTICATE: Final = 8000  # ms after which the broker drops a SASL connection


class World:
    """Brokers, started when they are first asked for; one of them may be hurt."""

    def __init__(self, shared: Apache | None = None) -> None:
        self._stack = ExitStack()
        self._shared = self._hurt = shared
        self._given = shared is not None
        self._starting = asyncio.Lock()
        self._hurting = asyncio.Lock()

    def close(self) -> None:
        self._stack.close()

    async def kafka(self) -> Apache:
        """The broker that stays well."""
        async with self._starting:
            if self._shared is None:
                self._shared = await self._start()
        return self._shared

    @asynccontextmanager
    async def hurt(self) -> AsyncIterator[Apache]:
        """A broker to kill, freeze or cut off, for one scenario at a time."""
        async with self._hurting:
            if self._hurt is None:
                self._hurt = await self._start()
            if not self._hurt.ours:
                raise NotRun("the broker of KAFKA_BOOTSTRAP_SERVERS must not be hurt")
            yield self._hurt

    async def _start(self) -> Apache:
        reauthentication = "listener.name.sasl_plaintext.plain.connections.max.reauth.ms"
        for last in (False, True):
            broker = find()
            broker.more = {reauthentication: str(REAUTHENTICATE)}
            try:
                return await asyncio.to_thread(self._stack.enter_context, broker)
            except Unavailable:  # somebody else may have taken one of its ports
                if last:
                    raise
        raise AssertionError

    @asynccontextmanager
    async def shift(
        self,
        kafka: Apache | None = None,
        *,
        seed: int = 1,
        bad: bool = False,
        limits: bool = False,
        number: str = "",
        replicas: int = 1,
        **settings: Any,
    ) -> AsyncIterator["Shift"]:
        """Own topics, a sandbox with these settings, and a shop that remembers."""
        broker = kafka or await self.kafka()
        async with Sandbox(limits=limits) as sandbox:
            shift = Shift(
                broker.bootstrap,
                sandbox,
                replicas=replicas,
                shop=Shop(seed=seed, bad=bad),
                number=number or uuid.uuid4().hex[:8],
            )
            shift.set(keep_bodies=True, **settings)
            await shift.create_topics()
            yield shift

    @asynccontextmanager
    async def proxied(self, kafka: Apache) -> AsyncIterator[Proxy]:
        """A way to that broker that can be cut; clients must use `kafka.proxied`."""
        async with Proxy(kafka.behind, kafka.proxied) as way:
            yield way


@dataclass
class Shift(Rig):
    """One scenario's world: what its shop makes must be held by its Klaviyo, once."""

    shop: Shop = field(default_factory=Shop)
    dead: str = ""  # another topic for dead letters

    @property
    def dead_letters(self) -> str:
        return self.dead or super().dead_letters

    async def sell(self, customers: int, orders: int) -> int:
        """Write a day's changes."""
        return await self.send(self.shop.day(customers, orders))

    @asynccontextmanager
    async def selling(
        self, customers: int, orders: int, a_second: float
    ) -> AsyncIterator[asyncio.Event]:
        """Write them at this pace beside the block, and all of them by its end.

        Setting the event it gives ends the day early.
        """
        records = self.shop.day(customers, orders)
        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "enable.idempotence": True,
                "linger.ms": 5,
                "log_level": 0,
                "reconnect.backoff.max.ms": 500,
            }
        )
        enough = asyncio.Event()
        feeding = asyncio.create_task(self._feed(producer, records, a_second, enough))
        try:
            yield enough
            await feeding
            assert await asyncio.to_thread(producer.flush, 60) == 0
        finally:
            feeding.cancel()

    async def _feed(
        self,
        producer: Producer,
        records: Iterator[Made],
        a_second: float,
        enough: asyncio.Event,
    ) -> None:
        names = {"shop.customers": self.customers, "shop.orders": self.orders}
        loop = asyncio.get_running_loop()
        started = loop.time()
        for count, made in enumerate(records, 1):
            producer.produce(names[made.topic], made.value, made.key)
            self.sent += 1
            ahead = count / a_second - (loop.time() - started)
            if ahead > 0.05:
                producer.poll(0)
                await asyncio.sleep(ahead)
                if enough.is_set():  # what the shop has made is written by now
                    return

    async def lag(self) -> int:
        """As of any rig; all of it while the broker cannot say."""
        try:
            return await super().lag()
        except KafkaException:
            return self.sent

    @property
    def klaviyo(self) -> str:
        """Host and port of the sandbox, where a proxy may lead to."""
        return self.sandbox.url.removeprefix("http://")

    @property
    def asked(self) -> int:
        """Requests that Klaviyo has seen."""
        ledger = self.sandbox.ledger
        return sum(sum(counts.values()) for counts in ledger.statuses.values())

    def _story(self, who: str, stored: Stored) -> Iterator[str]:
        """What Klaviyo was asked about one customer whose profile is wrong."""
        yield f"wanted: {self.shop.profiles[who]}"
        yield f"held:   {stored.profiles.get(who)}"
        for entry in self.sandbox.ledger.entries:
            said = [part for part in _parts(entry.body) if f'"{who}"' in part]
            if entry.method == "POST" and said:
                what = f"{entry.operation} {entry.status} {entry.fault}"
                yield f"  {what} {entry.monotonic:.1f} to {entry.finished:.1f} s"
                yield from (f"      {part[:400]}" for part in said)

    def planted(self, **more: str) -> "Planted":
        """A service with faults to plant; see `tests.faults.planted`."""
        plain = self.service(**more)
        return Planted.of(plain)

    async def done(self, *services: Service, within: float = 90.0) -> None:
        """All is delivered and committed; then they end in order."""
        try:
            await self.drained(within)
        except TimeoutError:
            shown = [each.output[-1500:] for each in services]
            message = f"{await self.lag()} records open after {within} s: {shown}"
            raise AssertionError(message) from None
        for service in services:
            assert await service.terminate() == 0, service.output[-1500:]

    async def balance(
        self,
        *,
        throttled: bool = False,
        overlaps: bool = False,
        letters_again: bool = False,
    ) -> str:
        """Compare what was made with what is stored; one line if both agree.

        `throttled`: 429 were scripted. `overlaps`: two owners may overlap for a moment.
        `letters_again`: a process died between writing a dead letter and its commit.
        """
        stored = await fetch(self.sandbox.url)
        for who in stored.profiles.keys() - self.shop.profiles.keys():
            if stored.profiles[who]["external_id"] is None:
                del stored.profiles[who]  # made by hand in Klaviyo, not by the shop
        stored.dead = await asyncio.to_thread(
            read_dead_letters, self.bootstrap, self.dead_letters
        )
        if letters_again:
            stored.dead = {key: [*dict.fromkeys(why)] for key, why in stored.dead.items()}
        allowed = {"answers 429"} if throttled else set()
        if overlaps:
            allowed.add("order broken")
        found = compare(self.shop, stored)
        wrong = [each for each in found if not each.good and each.what not in allowed]
        if wrong:
            first = [who for each in wrong for who in each.wrong if who[:2] == "C-"][:1]
            story = "\n".join(line for who in first for line in self._story(who, stored))
            raise AssertionError(f"the ledger does not balance: {wrong}\n{story}")
        again = self.sandbox.state.events.duplicates - self.shop.resent
        return (
            f"{len(self.shop.profiles)} profiles and {len(self.shop.events)} events once,"
            f" {len(self.shop.dead)} dead letters, {max(0, again)} events sent again"
        )


class Planted(Service):
    """The program with faults planted under it, set while it runs."""

    module = "tests.faults.planted"

    @classmethod
    def of(cls, service: Service) -> Self:
        """The same, but planted."""
        made = cls.__new__(cls)
        made.__dict__.update(service.__dict__)
        folder = Path(tempfile.mkdtemp(prefix="planted-"))
        made._file = folder / "plan.json"
        made._plan = {}
        made._environ = {**service._environ, "PLANT_FILE": str(made._file)}
        return made

    _file: Path
    _plan: dict[str, Any]

    async def __aexit__(self, *error: object) -> None:
        await super().__aexit__(*error)
        shutil.rmtree(self._file.parent, ignore_errors=True)

    def counted(self) -> tuple[int, int]:
        """Tasks of its loop, and young objects, a second ago; 0 before it counted."""
        try:
            tasks, young = self._file.with_suffix(".tasks").read_text().split()
        except OSError:
            return 0, 0
        return int(tasks), int(young)

    def plant(self, **plan: Any) -> None:
        """Change the plan; it is in force within 0.1 s."""
        self._plan |= plan
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps(self._plan))
        os.replace(fresh, self._file)  # noqa: PTH105  it must change at once

    def dying(self, moment: str, number: int) -> Self:
        """Let it die the n-th time it comes to that moment."""
        self._environ["PLANT_DEATH"] = f"{moment}:{number}"
        return self


async def eventually(
    true: Callable[[], Awaitable[object]], what: str, within: float = 30.0
) -> None:
    """Wait until something asked for is true; a deadline, not a measurement."""
    try:
        async with asyncio.timeout(within):
            while not await true():
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"not within {within} s: {what}") from None


async def hold(seconds: float, *services: Service) -> None:
    """Let a fault last; these must stay alive, and say so."""
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while loop.time() < end:
        for service in services:
            assert service.running, service.output[-1500:]
            if '"running"' in service.output:
                status, text = await service.get("/livez")
                assert status == 200, text
        await asyncio.sleep(0.5)


async def running(service: Service) -> None:
    """It has started."""

    async def started() -> bool:
        assert service.running, service.output[-1500:]
        return '"running"' in service.output

    await eventually(started, "the service runs")


def errors(service: Service) -> list[str]:
    """What it logged as an error; to its Kafka client each lost connection is one."""
    lines = service.output.splitlines()
    own = [line for line in lines if '"logger": "aiokafka' not in line]
    return [line for line in own if '"level": "error"' in line or "Traceback" in line]


async def calm(service: Service, shift: Shift) -> None:
    """It waits for others, and says so: no halt, no dead letter, nobody must act."""
    status, text = await service.get("/readyz")
    assert status == 200, text
    assert await service.metric("dead_letters_total") == len(shift.shop.dead)


def _parts(body: Any) -> list[str]:
    """A body, or the rows of a bulk one."""
    try:
        rows = body["data"]["attributes"]["profiles"]["data"]
    except (KeyError, TypeError):
        return [json.dumps(body)]
    return [json.dumps(row) for row in rows]
