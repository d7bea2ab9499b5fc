"""The faults that take seconds; `make faults` brings about all of them."""

import pytest

from tests.brokers.apache import Apache
from tests.faults.__main__ import choose
from tests.faults.scenario import SCENARIOS, NotRun
from tests.faults.world import World

QUICK = [each.name for each in choose(()) if each.quick]


@pytest.mark.kafka
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", QUICK)
async def test_the_invariant_holds(name: str, kafka: Apache) -> None:
    (scenario,) = choose([name])
    try:
        await scenario.play(World(kafka))
    except NotRun as reason:
        pytest.skip(str(reason))


def test_there_is_a_scenario_for_each_fault() -> None:
    assert sorted(SCENARIOS) == list(range(1, 46))
    assert all(each.name and each.what and each.invariant for each in SCENARIOS.values())


def test_an_unknown_name_is_said() -> None:
    with pytest.raises(SystemExit, match=r"no fault 46; there are 1 broker-killed"):
        choose(["46"])
