"""The demo, start to end: `klaviyo-pipeline demo`.

Broker and sandbox run beside the real pipeline (`pipeline.app`, with settings as a user
would give them); the shop sends its day; then a marketer works in Klaviyo, which must
come back, and nothing else; when all of it has ended the proof is printed.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

from confluent_kafka import Producer
from pydantic import SecretStr
from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline import settings as config
from pipeline.app import App
from pipeline.demo import foreign, marketer
from pipeline.demo.broker import Broker
from pipeline.demo.proof import (
    Finding,
    Stored,
    compare,
    compare_skipped,
    fetch,
    read_dead_letters,
)
from pipeline.demo.shop import CUSTOMERS, ORDERS, Made, Shop
from pipeline.observe.metrics import counted
from pipeline.sandbox import Sandbox

__all__ = ["run"]

REVISION: Final = "2026-07-15"
DEAD_LETTERS: Final = "klaviyo.dead-letters"
TOPICS: Final = [CUSTOMERS, ORDERS, *foreign.TOPICS]
PROFILES: Final = "klaviyo.profiles"
CUSTOMERS_A_SECOND: Final = 10  # under the 12.5 profiles a second of single calls
ORDERS_A_SECOND: Final = 8  # each makes about 4 events; single calls carry 58 a second
PLAIN_EVERY: Final = 2.0  # s between two lines without a terminal
GIVE_UP: Final = 60.0  # s after the shop has closed


async def run(seconds: float, console: Console) -> bool:
    """Show one shop day of `seconds`; true if shop and Klaviyo agree at the end."""
    shop = Shop()
    day = [
        *foreign.changes(shop),
        *shop.day(int(seconds * CUSTOMERS_A_SECOND), int(seconds * ORDERS_A_SECOND)),
    ]
    console.print(
        f"a shop makes {shop.made} changes, some bad on purpose, some in the shapes of "
        "other shops and of Debezium. Real pipeline, embedded Kafka, local Klaviyo with "
        "the official limits",
        soft_wrap=not console.is_terminal,
    )
    async with Sandbox() as sandbox:
        with Broker() as broker:
            await asyncio.to_thread(broker.create, TOPICS)
            app = App(_settings(broker.address, sandbox.url))
            stop = asyncio.Event()
            service = asyncio.create_task(app.run(stop))
            try:
                await _send(day, seconds, broker.address, app, service, console)
                stored = await fetch(sandbox.url)
                console.print(
                    "the shop has closed; a marketer edits, unsubscribes and deletes"
                )
                await _seen(app, sandbox.state.clock.now())
                marketer.work(sandbox)
                back = await marketer.came_back(broker.address, PROFILES)
            finally:
                stop.set()
                await service
            stored.dead = await asyncio.to_thread(
                read_dead_letters, broker.address, DEAD_LETTERS
            )
    return _report(shop, stored, back, app, console)


def _settings(bootstrap: str, url: str) -> config.Settings:
    return config.Settings(
        klaviyo=config.Klaviyo(
            api_url=url, api_key=SecretStr("pk_demo"), api_revision=REVISION
        ),
        kafka=config.Kafka(
            bootstrap_servers=bootstrap, topics=tuple(TOPICS), start="earliest"
        ),
        topics=config.Topics(dead_letters=DEAD_LETTERS, profiles=PROFILES),
        reverse=config.Reverse(
            start="all", interval=1, settle=4, consent_interval=2, sweep_interval=3
        ),
        profile=config.Profile(default_country="US"),
        mapping=foreign.mappings(),
        http=config.Http(host="127.0.0.1", port=0),
    )


async def _send(
    day: list[Made],
    seconds: float,
    bootstrap: str,
    app: App,
    service: asyncio.Task[None],
    console: Console,
) -> None:
    """Send the day at its pace, show progress until all of it has ended."""
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 0, "log_level": 0})
    rate = len(day) / seconds
    started = time.monotonic()
    deadline = started + seconds + GIVE_UP
    sent = 0
    with _progress(console) as show:
        while not service.done() and time.monotonic() < deadline:
            due = min(len(day), int((time.monotonic() - started) * rate) + 1)
            for made in day[sent:due]:
                producer.produce(made.topic, made.value, made.key)
            producer.poll(0)
            sent = due
            ended = _ended(app)
            show(sent, ended)
            if sent == len(day) and sum(ended.values()) >= sent:
                break
            await asyncio.sleep(0.1)
    producer.flush(5)


async def _seen(app: App, until: float) -> None:
    """Wait until the poller has seen what the shop did up to `until`, Unix seconds."""
    async with asyncio.timeout(GIVE_UP):
        while True:
            (cursor,) = app.metrics.reverse_cursor.collect()
            if cursor.samples[0].value >= until:
                return
            await asyncio.sleep(0.2)


def _ended(app: App) -> dict[str, int]:
    """How many records have ended, by result, from the metrics a user would scrape."""
    found = counted(app.metrics.records_settled, "result")
    return {result: found[result] for result in ("delivered", "skipped", "dead_lettered")}


Show: TypeAlias = Callable[[int, dict[str, int]], None]


@contextmanager
def _progress(console: Console) -> Iterator[Show]:
    """Live bars on a terminal, a plain line every two seconds otherwise."""
    if not console.is_terminal:
        last = 0.0

        def line(sent: int, ended: dict[str, int]) -> None:
            nonlocal last
            if time.monotonic() - last >= PLAIN_EVERY:
                last = time.monotonic()
                parts = ", ".join(f"{count} {name}" for name, count in ended.items())
                console.print(f"sent {sent}: {parts}".replace("_", "-"))

        yield line
        return
    with Live(console=console, refresh_per_second=8) as live:

        def table(sent: int, ended: dict[str, int]) -> None:
            grid = Table(box=None, padding=(0, 2))
            for heading in ("sent to Kafka", *ended, "in hand"):
                grid.add_column(heading.replace("_", " "), justify="right")
            waiting = sent - sum(ended.values())
            grid.add_row(*(str(n) for n in (sent, *ended.values(), waiting)))
            live.update(grid)

        yield table


def _report(
    shop: Shop, stored: Stored, back: list[Finding], app: App, console: Console
) -> bool:
    findings = [
        *compare(shop, stored),
        *compare_skipped(shop, counted(app.metrics.skipped, "reason")),
        Finding("records ended", shop.made, sum(_ended(app).values())),
        *back,
    ]
    if console.is_terminal:
        console.print(_table(findings))
    else:
        for finding in findings:
            console.print(
                f"{finding.what}: made {finding.made}, stored {finding.stored}, "
                f"{_verdict(finding)}",
                soft_wrap=True,
            )
    good = all(finding.good for finding in findings)
    console.print(
        "proof: shop and Klaviyo agree, record by record"
        if good
        else "proof: FAILED, see above",
        style="bold green" if good else "bold red",
    )
    return good


def _table(findings: list[Finding]) -> Table:
    table = Table(title="what the shop made, against what Klaviyo and Kafka hold")
    for heading in ("", "made", "stored", "verdict"):
        table.add_column(
            heading, justify="left" if heading in ("", "verdict") else "right"
        )
    for finding in findings:
        colour = "green" if finding.good else "red"
        table.add_row(
            finding.what,
            str(finding.made),
            str(finding.stored),
            f"[{colour}]{_verdict(finding)}[/]",
        )
    return table


def _verdict(finding: Finding) -> str:
    if finding.good:
        return "agrees"
    names = ", ".join(finding.wrong)
    return f"DIFFERS: {names}" if names else "DIFFERS"
