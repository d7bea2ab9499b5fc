"""The way to Klaviyo as the settings describe it."""

import pytest
from pydantic import SecretStr

from pipeline.access import connect
from pipeline.clock import SYSTEM
from pipeline.observe.health import Health
from pipeline.observe.metrics import Metrics
from pipeline.settings import Klaviyo, Reverse, Settings


@pytest.mark.parametrize(
    ("enabled", "reverse", "spare", "calls"),
    [
        (True, True, False, 250),
        (True, False, False, 500),
        (False, False, False, 750),
        (True, False, True, 750),
    ],
)
async def test_the_two_directions_have_parts_of_the_reads_of_profiles(
    *, enabled: bool, reverse: bool, spare: bool, calls: int
) -> None:
    settings = Settings(
        klaviyo=Klaviyo(api_key=SecretStr("pk_test")), reverse=Reverse(enabled=enabled)
    )
    metrics = Metrics()
    health = Health(metrics, SYSTEM)
    async with connect(settings, health, metrics, reverse=reverse, spare=spare) as client:
        family = client._limits.family("get_profiles")
        assert [window.limit for window in family._windows.values()][1] == calls
