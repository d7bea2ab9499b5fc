"""One replay from its first record to its summary.

    spans -> read what is selected -> carry it through the flow -> account of what ended
          -> later profile changes of the same customers, so that the newest wins

Nothing here decides what a record does in Klaviyo. A call that is interrupted leaves its
account in the state topic, and the same call goes on with it.
"""

import random
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec

from pipeline.access import same_account
from pipeline.clock import SYSTEM
from pipeline.errors import SettingsError
from pipeline.forward.dead_letters import DeadLetters
from pipeline.forward.plan import Planner
from pipeline.kafka.positions import decide
from pipeline.kafka.ranges import Span, Timeless, look, moments, topics
from pipeline.kafka.state import State
from pipeline.records import Partition
from pipeline.replay.account import Account
from pipeline.replay.carry import Carrier
from pipeline.replay.letters import Letter, Marks, OpenLetters, Originals
from pipeline.replay.outcome import Summary
from pipeline.replay.selection import (
    Everything,
    Later,
    Origin,
    Selection,
    Touched,
    Unlettered,
    Watched,
)
from pipeline.replay.shelf import followed, letters, there
from pipeline.replay.spans import Asked, Cut, partitions, spans
from pipeline.replay.tools import Tools
from pipeline.replay.turn import Turn
from pipeline.replay.waiting import connecting
from pipeline.replay.writers import Again, Shown, Silent, Unless
from pipeline.stages import context, require_history

__all__ = ["Job"]

T = TypeVar("T")
Kind = TypeVar("Kind", bound=DeadLetters)
Watch = TypeVar("Watch", bound=Watched)


class Job:
    """What all replays share; made by `opened`."""

    def __init__(self, tools: Tools, *, backfill: bool) -> None:
        self._tools = tools
        self._context = context(tools.settings, backfill=backfill)
        self._touched = Touched()
        self.summary = Summary()
        self._carrier = Carrier(tools, self.summary)

    # -- what can be asked for -----------------------------------------------------------

    async def replay(
        self, asked: Sequence[Asked], selection: Selection, name: str
    ) -> Summary:
        """Send these ranges again; `name` tells this call from others."""
        found: dict[Partition, Span] = {}
        for each in asked:
            found |= await spans(self._tools.kafka, self._tools.settings.kafka, each)
        planner = self._planner(Watched)
        if self._tools.dry is not None:
            await self._carrier.carry(
                "showing", found, selection, planner, self._shown(), _nothing
            )
            return self._ended()
        async with self._state("replay") as state:
            account = Account(state, name)
            done: dict[Partition, int] = {}
            if (before := await account.load()) is not None:
                found, done = await self._still_there(account, *before)
                self.summary.resumed = True
            else:
                account.begin(found)
            new = self._letters(Unless)
            new.known = await self._known(found)
            meant = Unlettered(selection, new.known, done, planner)
            await self._carrier.carry(
                "sending", found, meant, planner, new, account.settled, done
            )
            self.summary.left(meant.count)
            self.summary.there += new.count
            if not self._tools.stop.is_set():
                await self._newest_wins({each: span.to for each, span in found.items()})
            if not self._tools.stop.is_set():
                await account.finished()
        return self._ended()

    async def letters(self, reason: str | None, name: str | None) -> Summary:
        """Send the open dead letters of that reason, or the one of that id, again."""
        topic = self._tools.settings.topics.dead_letters
        # What was there when it was called: not what a call that is waited for adds.
        found = await spans(self._tools.kafka, self._tools.settings.kafka, Asked(topic))
        async with self._turn(), self._state("dead-letters") as state:
            if self._tools.stop.is_set():
                return self._ended()
            marks = Marks(state)
            await marks.load()
            planner = self._planner(Originals)
            chosen = OpenLetters(marks, planner.plan, reason=reason, name=name)
            if self._tools.dry is not None:
                await self._carrier.carry(
                    "showing",
                    found,
                    chosen,
                    planner,
                    self._shown(),
                    _nothing,
                    brake=False,
                )
            else:
                left = await self._waited(followed(self._shelf(found), marks))
                await marks.put([each.mark for each in left or ()], "sent")
                again = self._letters(Again)
                # They are dead letters already: no brake keeps them from it.
                await self._carrier.carry(
                    "sending", found, chosen, planner, again, chosen.settled, brake=False
                )
            self.summary.cut = chosen.cut
            if self._tools.dry is None and not self._tools.stop.is_set():
                await self._newest_wins({})
            if self._tools.dry is None and not self._tools.stop.is_set():
                await marks.put(marks.unfinished(), "replayed")
        return self._ended()

    async def pending(self) -> Summary:
        """Show what the service would send now: from the group's offsets on."""
        kafka, found = self._tools.settings.kafka, await self._source_partitions()
        bounds, started = await look(self._tools.kafka, found)
        places = decide(
            bounds, group=kafka.group, start=kafka.start, started=started, young=()
        )
        ahead = {each: Span(at, bounds[each].end) for each, at in places.at.items()}
        planner = self._planner(Watched)
        await self._carrier.carry(
            "showing", ahead, Everything(), planner, self._shown(), _nothing
        )
        return self._ended()

    async def sources(self) -> list[str]:
        """Give the topics the service reads that exist."""
        settings = self._tools.settings.topics
        ours = {settings.dead_letters, settings.state}
        found = sorted(await topics(self._tools.kafka, ours))
        if not found:
            raise SettingsError(
                "None of kafka.topics exists: create them (klaviyo-pipeline topics "
                "--create), or correct kafka.topics."
            )
        return found

    # -- how it is done ------------------------------------------------------------------

    async def _still_there(
        self,
        account: Account,
        found: Mapping[Partition, Span],
        done: dict[Partition, int],
    ) -> tuple[dict[Partition, Span], dict[Partition, int]]:
        """Cut off what was sent and deleted since; what was not sent is a loss to say."""
        bounds, _ = await look(self._tools.kafka, found)
        for (topic, number), span in found.items():
            begin = bounds[topic, number].beginning
            if done.get((topic, number), span.at) < min(begin, span.to):
                await account.finished()
                raise Cut(
                    f"The interrupted call cannot go on: retention has deleted "
                    f"{topic}-{number} up to offset {begin}. Call again to begin anew, "
                    "with what is left."
                )
        left = {
            each: Span(min(max(span.at, bounds[each].beginning), span.to), span.to)
            for each, span in found.items()
        }
        return left, done

    async def _newest_wins(self, after: Mapping[Partition, int]) -> None:
        """Send the profile changes that came later for the same customers.

        Again for what came meanwhile, until nothing did: each time about those only that
        the time before was about. `after` are the ends of what was just sent.
        """
        settings, touched, ends = self._tools.settings, self._touched, dict(after)
        found = {*after, *await self._source_partitions()} if touched else set()
        while touched and not self._tools.stop.is_set():
            bounds, _ = await look(self._tools.kafka, found)
            since = dict.fromkeys(found - ends.keys(), max(0, touched.since or 0))
            try:
                ends |= await moments(self._tools.kafka, since, bounds)
            except Timeless:
                ends |= {each: bounds[each].beginning for each in since}
            ahead = {
                each: Span(max(ends[each], bound.beginning), bound.end)
                for each, bound in bounds.items()
            }
            learnt = Touched()
            later = Later(
                self._context, settings.mapping, self._tools.registry, touched, learnt
            )
            reader = await self._carrier.carry(
                "settling", ahead, later, later, self._letters(Silent), _nothing
            )
            self.summary.later += reader.sent
            touched, ends = learnt, {each: span.to for each, span in ahead.items()}

    def _ended(self) -> Summary:
        self.summary.interrupted = self._tools.stop.is_set()
        return self.summary

    async def greet(self) -> None:
        """One harmless call first: a bad key ends it, and the revision gets known.

        Raises `Refused`, `Halted`, and `SettingsError` for a backfill that would mail.
        """
        if self._tools.dry is None:
            found = await self._waited(self._tools.klaviyo.accounts())
            await same_account(self._tools.settings, found)
        require_history(self._context, self._tools.klaviyo.served)

    async def _source_partitions(self) -> list[Partition]:
        return [
            each
            for topic in await self.sources()
            for each in await partitions(self._tools.settings.kafka, topic, None)
        ]

    def planner(self, *, events: bool | None = None) -> Planner:
        """Give one to look into records with; `events` overrides the setting."""
        context = self._context
        if events is not None:
            context = msgspec.structs.replace(context, generate_events=events)
        return Planner(context, self._tools.settings.mapping, self._tools.registry)

    def _planner(self, kind: type[Watch]) -> Watch:
        return kind(
            self._context,
            self._tools.settings.mapping,
            self._tools.registry,
            self._touched,
        )

    async def _waited(self, asked: Coroutine[Any, Any, T]) -> T | None:
        return await connecting(
            asked, self._tools.health, self._tools.stop, self._tools.report
        )

    def _shelf(self, found: Mapping[Partition, Span]) -> AsyncIterator[Letter]:
        return letters(self._tools.kafka, found, self._tools.health)

    async def _known(self, ranges: Mapping[Partition, Span]) -> frozenset[Origin]:
        """Give the records of these ranges that are dead letters already."""
        topic = self._tools.settings.topics.dead_letters
        found = await spans(self._tools.kafka, self._tools.settings.kafka, Asked(topic))
        async with self._state("dead-letters") as state:
            marks = Marks(state)
            await marks.load()
            known = await self._waited(there(self._shelf(found), marks, ranges))
            return frozenset(known or ())

    def _letters(self, kind: type[Kind]) -> Kind:
        settings = self._tools.settings
        return kind(
            self._tools.producer,
            settings.topics.dead_letters,
            settings.subscription.name,
            self._tools.health,
            self._tools.metrics,
        )

    def _shown(self) -> DeadLetters:
        assert self._tools.dry is not None  # noqa: S101  asked for in a dry run only
        return Shown(self._tools.dry.show)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Be the only one that sends dead letters again; a dry run sends none."""
        if self._tools.dry is not None:
            yield
            return
        async with self._state("replaying") as state:
            turn = Turn(state, self._tools.health, SYSTEM, random.Random().random)  # noqa: S311  when to look, not a secret
            await self._waited(turn.wait())
            async with turn.kept(self._tools.stop):
                yield

    @asynccontextmanager
    async def _state(self, owner: str) -> AsyncIterator[State]:
        settings = self._tools.settings
        prefix = f"{settings.slug}/{owner}"
        state = State(settings.kafka, settings.topics.state, prefix)
        try:
            yield state
        finally:
            await state.close()


async def _nothing(_: Mapping[Partition, int]) -> bool:
    """Keep no account."""
    return True
