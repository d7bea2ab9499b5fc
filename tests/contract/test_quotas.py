"""What we begin with, before any answer, is what Klaviyo's document says."""

from pipeline.klaviyo.quotas import QUOTAS
from pipeline.sandbox.structure.load import operations


def test_limits_and_scopes_are_the_official_ones() -> None:
    official = {
        each.name: (each.burst, each.steady, set(each.scopes))
        for each in operations("2026-07-15").values()
    }
    ours = {
        name: (quota.burst, quota.steady, set(quota.scopes.split()))
        for name, quota in QUOTAS.items()
    }
    assert ours == {name: official.get(name) for name in QUOTAS}
