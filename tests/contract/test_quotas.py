"""What we begin with, before any answer, is what Klaviyo's document says."""

from pipeline.klaviyo.quotas import QUOTAS
from pipeline.sandbox.structure.load import operations


def test_limits_and_scopes_are_the_official_ones() -> None:
    official = {
        each.name: (each.burst, each.steady, set(each.scopes))
        for each in operations("2026-07-15").values()
    }
    shared = QUOTAS.keys() & official.keys()
    assert len(shared) > 30
    assert {name: official[name] for name in shared} == {
        name: (QUOTAS[name].burst, QUOTAS[name].steady, set(QUOTAS[name].scopes.split()))
        for name in shared
    }
