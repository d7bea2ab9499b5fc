"""The demo's proof: it fails when any of the mappings is missing, and only then."""

import tomllib

import pytest

from pipeline.demo.foreign import MAPPINGS, TOPICS, changes
from pipeline.demo.proof import compare, compare_skipped, fetch
from pipeline.demo.shop import CUSTOMERS, ORDERS, Shop
from pipeline.observe.metrics import counted
from schemas.mapping import read
from tests.consent.world import World
from tests.virtual_time import virtual

TABLES = tomllib.loads(MAPPINGS)["mapping"]


@pytest.mark.parametrize("dropped", ["none", *TABLES])
@virtual
async def test_the_proof_needs_every_mapping(dropped: str) -> None:
    mappings, faults = read({name: TABLES[name] for name in TABLES if name != dropped})
    assert not faults
    shop = Shop()
    topics = (CUSTOMERS, ORDERS, *TOPICS)
    async with World(topics=topics, mappings=mappings, writes=False) as world:
        for made in (*changes(shop), *shop.day(20, 10)):
            world.put(made.topic, made.key, made.value)
        await world.settled()
        stored = await fetch(world.sandbox.url)
        stored.dead = world.dead
        skipped = counted(world.metrics.skipped, "reason")
    findings = [*compare(shop, stored), *compare_skipped(shop, skipped)]
    differing = [finding.what for finding in findings if not finding.good]
    assert bool(differing) == (dropped != "none"), differing
