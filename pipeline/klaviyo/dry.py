"""Shows requests instead of sending them.

Everything before the wire runs as always, so what is shown is exactly what would go out.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any, Final
from urllib.parse import quote

from pipeline.klaviyo.call import Accepted, Call, Refused
from pipeline.klaviyo.family import Permit
from pipeline.klaviyo.session import Session

__all__ = ["DrySession"]

# What any answer to a write is read for: an id, and a job that has ended.
_DONE: Final = (
    b'{"data":{"type":"dry-run","id":"dry-run","attributes":{"status":"complete"}}}'
)
# Whoever a read looks for, to show what would be asked about them.
_FOUND: Final = b'{"data":[{"type":"profile","id":"dry-run","attributes":{}}]}'
_OK: Final = frozenset({200})
# What decides about consent and lists is really asked for; reads change nothing.
_LOOKED_UP: Final = frozenset({"get_lists", "get_profiles"})
_IDENTIFIERS: Final = ("external_id", "email", "phone_number")


class _Free(Permit):
    """A right to send that costs nothing, as nothing is sent."""

    def __init__(self) -> None:
        self._ended = True


class DrySession(Session):
    """Stands in for the session: every write is shown and taken as accepted."""

    def __init__(
        self, session: Session, show: Callable[[str], None], *, compare: bool
    ) -> None:
        """`compare` asks Klaviyo (reads alone) what a write to a profile would change."""
        self.revision = session.revision
        self._session = session
        self._show = show
        self._compare = compare

    async def ready(self, operation: str) -> None:
        """Return at once: there is no limit."""

    def free_now(self, operation: str) -> bool:
        """Say that there is no limit."""
        del operation
        return True

    async def acquire(self, operation: str) -> Permit:
        """Give what costs nothing."""
        del operation
        return _Free()

    async def send(self, call: Call) -> Accepted | Refused:
        """Show the call; a read shows nothing, and most are answered as done."""
        if call.method != "GET":
            self._show(f"{call.method} {call.path}\n{(call.body or b'').decode()}")
            if self._compare and call.body:
                await self._differences(call.body)
        elif call.operation in _LOOKED_UP:
            return await self._session.send(call)
        return Accepted(min(call.accepted), _DONE, 1)

    async def _differences(self, body: bytes) -> None:
        for wanted in _profiles(json.loads(body)):
            live = await self._live(wanted["attributes"])
            if live is None:
                self._show("  a new profile")
                continue
            lines = [*_changes("", wanted["attributes"], live), *_removed(wanted, live)]
            for line in lines or ["  no change"]:
                self._show(line)

    async def _live(self, wanted: dict[str, Any]) -> dict[str, Any] | None:
        """Find the profile as Klaviyo would: by the strongest identifier first."""
        for name in _IDENTIFIERS:
            if not (value := wanted.get(name)):
                continue
            text = str(value).replace("\\", "\\\\").replace('"', '\\"')
            filtered = quote(f'equals({name},"{text}")', safe="")
            path = f"/api/profiles?filter={filtered}"
            answer = await self._session.send(Call("get_profiles", "GET", path, _OK))
            if isinstance(answer, Accepted) and (
                found := json.loads(answer.body).get("data")
            ):
                attributes: dict[str, Any] = found[0]["attributes"]
                return attributes
        return None


def _profiles(body: dict[str, Any]) -> list[dict[str, Any]]:
    """Give the profiles that a request writes; none if it is about something else."""
    data = body.get("data")
    if not isinstance(data, dict):
        return []
    if data.get("type") == "profile":
        return [data]
    many = data.get("attributes", {}).get("profiles")
    return many["data"] if isinstance(many, dict) else []


def _changes(path: str, wanted: dict[str, Any], live: dict[str, Any]) -> Iterator[str]:
    for name, value in wanted.items():
        now = live.get(name)
        if isinstance(value, dict):
            yield from _changes(
                f"{path}{name}.", value, now if isinstance(now, dict) else {}
            )
        elif value != now:
            yield f"  {path}{name}: {_shown(now)} -> {_shown(value)}"


def _removed(wanted: dict[str, Any], live: dict[str, Any]) -> Iterator[str]:
    patch = wanted.get("meta", {}).get("patch_properties", {})
    held = live.get("properties") or {}
    for name in patch.get("unset", ()):
        if name in held:
            yield f"  properties.{name}: {_shown(held[name])} -> removed"


def _shown(value: object) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
