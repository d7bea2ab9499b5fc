"""Somebody who works in Klaviyo, and what must come back of it on Kafka.

Everything the shop wrote is already there: none of it may come back.
"""

import asyncio
import json
from collections import Counter
from typing import Final

from pipeline.demo.proof import Finding
from pipeline.demo.topic import messages
from pipeline.sandbox import Sandbox

__all__ = ["came_back", "work"]

PEOPLE: Final = 4  # of each kind
LINES: Final = {
    "edited": "klaviyo.profile.updated title",
    "unsubscribed": "klaviyo.profile.updated consent.email",
    "deleted": "klaviyo.profile.deleted ",
}
GIVE_UP: Final = 30.0  # s


def work(sandbox: Sandbox) -> None:
    """Edit some, unsubscribe others, delete others again."""
    state = sandbox.state
    now = state.clock.now()
    people = list(state.profiles)[: 3 * PEOPLE]
    for profile in people[:PEOPLE]:
        state.profiles.update(profile.id, {"title": "VIP"}, None, now)
    for profile in people[PEOPLE : 2 * PEOPLE]:
        profile.consent.unsubscribe("email.marketing", now)
    for profile in people[2 * PEOPLE :]:
        state.profiles.delete(profile)
    state.profiles.version += 1


async def came_back(bootstrap: str, topic: str) -> list[Finding]:
    """Wait for all of it; what else came back counts as wrong."""
    found: Counter[str] = Counter()
    try:
        async with asyncio.timeout(GIVE_UP):
            while found.total() < PEOPLE * len(LINES):
                await asyncio.sleep(0.5)
                found = await asyncio.to_thread(_read, bootstrap, topic)
    except TimeoutError:
        pass
    findings = [
        Finding(f"back: {what}", PEOPLE, found.pop(line, 0))
        for what, line in LINES.items()
    ]
    return [*findings, Finding("back: echoes of the shop", 0, found.total())]


def _read(bootstrap: str, topic: str) -> Counter[str]:
    """Count the messages by type and what changed."""
    found: Counter[str] = Counter()
    for message in messages(bootstrap, topic, "marketer"):
        change = json.loads(message.value() or b"{}")
        found[f"{change['type']} {','.join(change.get('changed', ()))}"] += 1
    return found
