"""The brake on dead letters says what it saw, and what helps against that."""

import pytest

from pipeline.forward.flood import HALF, Flood
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from tests.virtual_time import LoopClock, virtual


def flood(limit: int = 100, *then: str) -> tuple[Flood, Health]:
    health = Health(Metrics(), LoopClock())
    return Flood(limit, health, *then), health


@virtual
async def test_so_many_in_a_row_and_the_setting_that_allows_more() -> None:
    brake, health = flood(3)
    assert [brake.over(bad=bad) for bad in (True, True, False, True, True, True)] == [
        *[False] * 5,
        True,
    ]
    assert health.halts["malformed_flood"] == (
        "3 records in a row cannot be delivered: mend what writes the topic, or raise "
        "deliver.malformed_limit, and restart; the next start goes on with this record"
    )


@virtual
async def test_half_of_the_last_thousand_which_no_setting_allows() -> None:
    brake, health = flood()
    stopped = [brake.over(bad=number % 2 == 0) for number in range(2 * HALF)]
    assert stopped.index(True) == 2 * (HALF - 1)
    assert health.halts["malformed_flood"] == (
        "500 of the last 1000 records cannot be delivered: mend what writes the topic, "
        "or let up to 499 more become dead letters, and restart; the next start goes on "
        "with this record"
    )


@pytest.mark.parametrize(("limit", "halted"), [(0, False), (5, True)])
def test_without_a_limit_there_is_no_brake(limit: int, halted: bool) -> None:
    brake, health = flood(limit, "")
    assert any(brake.over(bad=True) for _ in range(2000)) is halted
    assert health.halted is halted


def test_a_command_says_itself_what_to_do_then() -> None:
    brake, health = flood(1, "")
    assert brake.over(bad=True)
    assert health.halts["malformed_flood"].endswith("raise deliver.malformed_limit")
