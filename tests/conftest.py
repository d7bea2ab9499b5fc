"""Fixtures that several folders of tests share."""

import os
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import HealthCheck, settings

from pipeline.demo.broker import Broker
from pipeline.sandbox import Sandbox
from tests.brokers.apache import Apache, Unavailable, find
from tests.flow.rig import Rig

# A slow machine finds no more errors than a fast one.
settings.register_profile(
    "ours", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("ours")


@pytest.fixture(autouse=True)
def blocking_fails() -> Iterator[None]:
    """Whatever of ours blocks a loop raises; but a traceback in a log looks at files."""
    with blockbuster_ctx(["pipeline", "schemas"]) as found:
        found.functions["os.stat"].deactivate()
        yield


@pytest.fixture
def say(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Show a ledger at the end of the run, whichever process it was kept in."""
    return lambda text: record_property("said", text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, text in getattr(report, "user_properties", ()):
                if name == "said":
                    terminalreporter.write_line(
                        f"{report.nodeid.split('::')[-1]}: {text}"
                    )


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """The start of the broker is no part of the test that happens to be its first."""
    for item in items:
        if item.get_closest_marker("kafka") is not None:
            own = item.get_closest_marker("timeout")
            limit = own.args[0] if own else float(config.getini("timeout"))
            item.add_marker(pytest.mark.timeout(limit, func_only=True), append=False)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Apache]:
    """A real Apache Kafka; without one the tests are skipped, or in CI fail."""
    try:
        broker = find().__enter__()
    except Unavailable as reason:
        if os.environ.get("KAFKA_TESTS_REQUIRED"):
            pytest.fail(f"tests on real Kafka are required here, but {reason}")
        pytest.skip(str(reason))
    try:
        yield broker
    finally:
        broker.__exit__()


@pytest.fixture
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """Own topics and a sandbox; on real Kafka for tests marked so, else embedded."""
    real = request.node.get_closest_marker("kafka") is not None
    limits = request.node.get_closest_marker("limits") is not None
    async with Sandbox(limits=limits) as sandbox:
        if real:
            broker: Apache = request.getfixturevalue("kafka")
            world = Rig(broker.bootstrap, sandbox)
            await world.create_topics()
            yield world
        else:
            with Broker() as mock:
                world = Rig(mock.address, sandbox)
                mock.create([world.customers, world.orders, world.dead_letters])
                yield world
