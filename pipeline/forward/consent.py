"""Consent and lists: what a group of customers said becomes as few requests as it can.

    lists by name -> profiles as they are -> steps -> note -> requests, one after another

**Settled** means that Klaviyo has taken it: 204 for who is on a list, 202 for a job. A
job for consent has no id, no status and no list of errors (Klaviyo's documents), so
nothing more can be waited for; it is validated whole before the 202. What makes that
sound:

- the profile is there before: it stands ahead in the customer's lane, and is released
  when its call was accepted or its import job has ended;
- the request is noted in the state topic before it is sent, so an opposite word of that
  customer waits until it shows in the profile, in this process or the next;
- a job sent twice after a crash changes nothing, and one that shows, or was noted as
  taken, is not sent again.

Requests of a group go one after the other: a customer may stand in several of them.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, TypeAlias, TypeVar, get_args

import msgspec

from pipeline.clock import Clock
from pipeline.forward.asked import Asked
from pipeline.forward.refused import dead
from pipeline.forward.steps import Known, Steps, Withheld, steps
from pipeline.klaviyo import held, people
from pipeline.klaviyo.call import Accepted, Refused
from pipeline.klaviyo.client import Client
from pipeline.klaviyo.family import Permit
from pipeline.klaviyo.lists import Lists
from pipeline.klaviyo.people import Kind, Person
from pipeline.observe.metrics import Metrics
from pipeline.records import DELIVERED, Dead, Item, Outcome
from schemas import klaviyo, subscriptions
from schemas.commands import ChangeConsent, Identity, UpsertProfile
from schemas.subscriptions import Row

__all__ = ["Consents"]

LOOK: Final = 2.0  # s between two looks if an earlier word shows
_IDENTIFIERS: Final[tuple[tuple[Kind, str], ...]] = (
    ("email", "e:"),
    ("phone_number", "p:"),
    ("external_id", "i:"),
)

Answered: TypeAlias = Accepted | Refused
_Send: TypeAlias = Callable[[Sequence[Row]], Awaitable[Answered]]
_Rows: TypeAlias = list[tuple[int, Row]]  # with the index of the item
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Consents:
    """Carries groups of `ChangeConsent`, one for a customer."""

    def __init__(
        self,
        *,
        client: Client,
        lists: Lists,
        asked: Asked,
        source: str,
        default: str,
        metrics: Metrics,
        clock: Clock,
    ) -> None:
        """`source` is shown with the consent; `default` the name of consent.list."""
        self._client = client
        self._calls = client.subscriptions
        self._lists = lists
        self._asked = asked
        self._source = source
        self._default = default
        self._metrics = metrics
        self._clock = clock
        for reason in get_args(Withheld):
            metrics.consent_withheld.labels(reason)  # at 0: a rate must see the first one

    def moved(self) -> None:
        """Partitions came from another process."""
        self._asked.moved()

    async def send(
        self, items: Sequence[Item], permit: Permit
    ) -> Sequence[Outcome | None]:
        """Outcomes by index; None for an item that has to be sent again.

        One that must wait for an earlier word of its customer goes with others that
        wait, so that nobody else does.
        """
        permit.unused()  # the first call is a read; each takes its own
        if items[0].kind == "late":
            await asyncio.sleep(LOOK)
        if not await self._asked.ready():
            return [None] * len(items)
        round_ = _Round(self._client, self._lists, self._source, self._metrics, items)
        known = await self._known(round_)
        todo: dict[int, Steps] = {}
        for index in round_.open:
            if (found := steps(round_.change(index), known)) is None:
                items[index].later()
                round_.outcomes[index] = None
            else:
                todo[index] = found
        asks = [ask for found in todo.values() for ask in found.asks]
        if (note := await self._asked.note(asks)) is None:
            return [None] * len(items)
        await round_.carry_out(todo, known)
        taken = [i for i in todo if round_.outcomes[i] == DELIVERED]
        await self._asked.taken(note, [ask for i in taken for ask in todo[i].asks])
        return round_.outcomes

    async def _known(self, round_: "_Round") -> Known:
        changes = [round_.change(index) for index in round_.open]
        names = {name for change in changes for name in change.lists}
        groups = {name: await self._lists.id(name) for name in sorted(names)}
        default = await self._lists.id(self._default) if self._default else None
        found = await self._people(round_, changes)
        return Known(
            lists=groups,
            default=default,
            people=found,
            asked=self._asked,
            now=self._clock.now(),
            history=subscriptions.historical(self._client.served),
        )

    async def _people(
        self, round_: "_Round", changes: Sequence[ChangeConsent]
    ) -> dict[str, Person]:
        """By identifier, who has it: of each channel, and of who moves between lists."""
        found: dict[str, Person] = {}
        for kind, prefix in _IDENTIFIERS:
            wanted = {
                name.removeprefix(prefix): None
                for change in changes
                for name in _looked_for(change)
                if name.startswith(prefix) and name not in found
            }
            askable = [value for value in wanted if held.askable(value)]
            for person in await self._having(round_, kind, askable):
                for name in _names(person):
                    found[name] = person
        return found

    async def _having(
        self, round_: "_Round", kind: Kind, values: Sequence[str]
    ) -> list[Person]:
        asked = [self._portion(round_, kind, each) for each in people.portions(values)]
        return [person for found in await asyncio.gather(*asked) for person in found]

    async def _portion(
        self, round_: "_Round", kind: Kind, values: Sequence[str]
    ) -> list[Person]:
        answer = await self._calls.people(kind, values)
        if not isinstance(answer, Refused):
            return answer
        if len(values) == 1:
            # Nothing is known of this one: whoever is meant is not guessed at.
            round_.unreadable(kind, values[0], answer)
            return []
        middle = len(values) // 2
        halves = values[:middle], values[middle:]
        return [p for each in halves for p in await self._portion(round_, kind, each)]


def _looked_for(change: ChangeConsent) -> Iterable[str]:
    """Name the profiles a change is about: each channel's, and whose lists are meant."""
    who = change.identity
    if change.lists:
        return who.names()
    return Identity(
        email=who.email if "email" in change.channels else None,
        phone=who.phone if "sms" in change.channels else None,
    ).names()


def _names(person: Person) -> tuple[str, ...]:
    return Identity(person.external_id, person.email, person.phone).names()


def _dead(item: Item) -> bool:
    return all(isinstance(ticket.outcome, Dead) for ticket, _ in item.parts)


def _list_is_gone(answer: Refused) -> bool:
    return any("/relationships/list" in fault.pointer for fault in answer.faults)


def _each(groups: Iterable[str]) -> Iterable[tuple[str, None]]:
    return ((group, None) for group in groups)


def _by(
    todo: Mapping[int, Steps], entries: Callable[[Steps], Iterable[tuple[_Key, _Value]]]
) -> dict[_Key, list[tuple[int, _Value]]]:
    """Gather what goes in the same request, with the index of its item."""
    found: dict[_Key, list[tuple[int, _Value]]] = {}
    for index, one in todo.items():
        for name, value in entries(one):
            found.setdefault(name, []).append((index, value))
    return found


class _Round:
    """One group on its way; an outcome for each of its items."""

    def __init__(
        self,
        client: Client,
        lists: Lists,
        source: str,
        metrics: Metrics,
        items: Sequence[Item],
    ) -> None:
        self._client = client
        self._calls = client.subscriptions
        self._lists = lists
        self._source = source
        self._metrics = metrics
        self._items = items
        self.outcomes: list[Outcome | None] = [DELIVERED] * len(items)
        # Of a record whose profile was refused nothing else is sent: its consent would
        # make a profile of its own.
        self.open = [index for index, item in enumerate(items) if not _dead(item)]

    def change(self, index: int) -> ChangeConsent:
        """Return what the record at that place says."""
        command = self._items[index].command
        assert isinstance(command, ChangeConsent)  # noqa: S101  nothing else comes here
        return command

    def unreadable(self, kind: Kind, value: str, answer: Refused) -> None:
        """End whoever has an identifier that Klaviyo does not let us ask for."""
        prefix = dict(_IDENTIFIERS)[kind]
        for index in list(self.open):
            if prefix + value in _looked_for(self.change(index)):
                self.open.remove(index)
                self._refused(index, answer)

    async def carry_out(self, todo: Mapping[int, Steps], known: Known) -> None:
        """Send what the steps of all items come to, a withdrawal before the rest."""
        for found in todo.values():
            for reason in found.withheld:
                self._metrics.consent_withheld.labels(reason).inc()
            for _ in range(found.missing):
                self._lost("lists")
        calls = self._calls
        gone = [(i, s.unsubscribe) for i, s in todo.items() if s.unsubscribe]
        await self._jobs(gone, self._unsubscribe, subscriptions.UNSUBSCRIBED)
        for group, who in _by(todo, lambda one: _each(one.remove)).items():
            await self._listed(who, group, calls.remove, known)
        most = subscriptions.subscribed(self._client.served)
        for (target, history), rows in _by(
            todo, lambda one: one.subscribe.items()
        ).items():
            await self._jobs(rows, self._subscribing(target, history), most, target)
        for group, who in _by(todo, lambda one: _each(one.add)).items():
            await self._listed(who, group, calls.add, known)
        for index, found in todo.items():
            if self.outcomes[index] == DELIVERED:
                change = self.change(index)
                self._items[index].commands = [
                    msgspec.structs.replace(change, channels=found.took, lists={})
                ]

    def _subscribing(
        self,
        group: str | None,
        history: bool,  # noqa: FBT001  a key of the requests
    ) -> _Send:
        async def send(rows: Sequence[Row]) -> Answered:
            body = subscriptions.subscribe(
                rows, group, source=self._source, history=history
            )
            return await self._calls.subscribe(body)

        return send

    async def _unsubscribe(self, rows: Sequence[Row]) -> Answered:
        body = subscriptions.unsubscribe(rows, self._client.served)
        return await self._calls.unsubscribe(body)

    async def _jobs(
        self, rows: _Rows, send: _Send, most: int, group: str | None = None
    ) -> None:
        for start in range(0, len(rows), most):
            await self._job(list(rows[start : start + most]), send, group)

    async def _job(self, rows: _Rows, send: _Send, group: str | None) -> None:
        """Send one job; what Klaviyo names in a refusal is left out of the next try."""
        while rows:
            answer = await send([row for _, row in rows])
            if isinstance(answer, Accepted):
                return
            if group is not None and _list_is_gone(answer):
                self._gone([index for index, _ in rows], group)
                return
            rest = self._mended(rows, answer)
            if len(rest) == len(rows) and rest == rows:  # it names nobody
                if len(rows) == 1:
                    self._refused(rows[0][0], answer)
                    return
                middle = len(rows) // 2
                await self._job(rows[:middle], send, group)
                await self._job(rows[middle:], send, group)
                return
            rows = rest

    def _mended(self, rows: _Rows, answer: Refused) -> _Rows:
        """Return the rows without the channels and profiles that a refusal names."""
        rest: dict[int, tuple[int, Row]] = dict(enumerate(rows))
        for fault in answer.faults:
            place = subscriptions.place(fault.pointer)
            if place is None or place.row not in rest:
                continue
            index, row = rest[place.row]
            if place.channel is None:
                self._refused(index, answer)
                del rest[place.row]
            elif place.channel in row.identifiers:
                if place.time:  # unsubscribed in the moment between our look and this
                    self._metrics.consent_withheld.labels("newer").inc()
                else:
                    self._lost("consent")
                rest[place.row] = index, row.without(place.channel)
        return [each for each in rest.values() if each[1].identifiers]

    async def _listed(
        self,
        who: Iterable[tuple[int, None]],
        group: str,
        call: Callable[[str, bytes], Awaitable[Answered]],
        known: Known,
    ) -> None:
        """Put profiles on a list, or take them off."""
        ids: dict[str, int] = {}
        for index, _ in who:
            if (each := await self._id(index, known)) is not None:
                ids[each] = index
        rest = list(ids)  # of a group, which is no larger than what one call takes
        while rest:
            answer = await call(group, subscriptions.members(rest))
            if isinstance(answer, Accepted):
                break
            places = map(subscriptions.place, (f.pointer for f in answer.faults))
            named = {place.row for place in places if place and place.row < len(rest)}
            if not named:
                self._gone([ids[each] for each in rest], group)
                break
            for _ in named:
                self._lost("lists")  # merged or deleted since we looked
            rest = [each for i, each in enumerate(rest) if i not in named]

    async def _id(self, index: int, known: Known) -> str | None:
        """Klaviyo's id of the customer; writing the profile once more tells it."""
        who = self.change(index).identity
        if (person := known.person(who)) is not None:
            return person.id
        body = klaviyo.profile_import(UpsertProfile(who, {}, {}), self._client.served)
        answer = await self._client.import_profile(body)
        if isinstance(answer, Accepted):
            return self._client.id_of(answer)
        found = (fault.duplicate_profile_id for fault in answer.faults)
        if (other := next(filter(None, found), None)) is None:
            self._lost("lists")
        return other

    def _gone(self, indexes: Iterable[int], group: str) -> None:
        """The list was deleted since it was found: once more, by its name."""
        self._lists.forget(group)
        for index in indexes:
            item = self._items[index]
            if item.alone:  # it was tried again
                self._lost("lists")
            else:
                item.alone = True
                self.outcomes[index] = None

    def _refused(self, index: int, answer: Refused) -> None:
        self.outcomes[index] = dead(answer)

    def _lost(self, field: str) -> None:
        self._metrics.degraded_fields.labels(field).inc()
