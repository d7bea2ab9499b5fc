"""What of one customer's word about consent and lists is to be asked of Klaviyo. Pure.

- Nobody is subscribed whose unsubscribing or suppression at Klaviyo is newer than the
  consent: the consent's own time, else the record's. Unsubscribing always goes.
- What is so already, or was asked for in the last 30 minutes, is not asked again unless
  something changed since.
- An opposite word waits until the one before shows, since jobs keep no order.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal, TypeAlias

import msgspec

from pipeline.forward.asked import APPLIES, Ask, Asked, key
from pipeline.klaviyo.people import Held, Person
from schemas.commands import ChangeConsent, Channel, Identity, Said
from schemas.subscriptions import Row

__all__ = ["Known", "Steps", "Withheld", "identifier", "steps"]

Withheld: TypeAlias = Literal["newer", "repeated"]
SKEW: Final = 60.0  # s that Klaviyo's clock may be beside ours
_NOBODY: Final = Held()


class Steps(msgspec.Struct):
    """One customer's part in the requests of a group; lists go by id."""

    subscribe: dict[tuple[str | None, bool], Row] = {}  # (list, with its own time)
    unsubscribe: Row | None = None
    add: list[str] = []
    remove: list[str] = []
    asks: list[Ask] = []
    took: dict[Channel, Said] = {}  # of the record's words those that are sent
    withheld: list[Withheld] = []
    missing: int = 0  # lists that do not exist


class Known(msgspec.Struct):
    """What is known beside the record."""

    lists: Mapping[str, str | None]  # name -> id, for all that the group names
    default: str | None  # id of consent.list
    people: Mapping[str, Person]  # by name as of `Identity.names`
    asked: Asked
    now: float  # Unix seconds
    history: bool  # whether the revision lets consent carry its own time

    def person(self, who: Identity) -> Person | None:
        """Return whose lists are meant: the profile the strongest identifier finds."""
        found = (self.people.get(name) for name in who.names())
        return next(filter(None, found), None)


def identifier(who: Identity, channel: Channel) -> str:
    """Return what names the person on that channel; it has been checked to be there."""
    found = who.email if channel == "email" else who.phone
    assert found is not None  # noqa: S101  schemas.consent leaves the channel out
    return found


def steps(change: ChangeConsent, known: Known) -> Steps | None:
    """Return what to ask; None if it must wait until an earlier word shows."""
    found = Steps()
    wanted: list[str] = []
    for name, kind in change.lists.items():
        group = known.lists.get(name)
        if group is None:
            found.missing += 1
        elif kind == "add":
            wanted.append(group)
        elif _joining(change, group, known):
            return None
        else:
            found.remove.append(group)
    group = wanted[0] if wanted else known.default
    for channel, said in change.channels.items():
        if said.subscribed:
            done = _subscribe(found, change, channel, group, known)
        else:
            done = _unsubscribe(found, change, channel, known)
        if not done:
            return None
    _join(found, change, wanted, known)
    return found


def _join(
    found: Steps, change: ChangeConsent, wanted: Sequence[str], known: Known
) -> None:
    """Put the customer on the lists that no subscription does."""
    person = known.person(change.identity)
    off = person.off_lists if person else {}
    joined = {group for group, _ in found.subscribe}
    for group in wanted:
        if off.get(group, 0.0) > _time(change.said):
            found.withheld.append("newer")
        elif group not in joined:
            found.add.append(group)


def _subscribe(
    found: Steps, change: ChangeConsent, channel: Channel, group: str | None, known: Known
) -> bool:
    """Add the channel to what is subscribed; false if it must wait."""
    address = identifier(change.identity, channel)
    own = change.channels[channel].at
    said = _time(own or change.said)
    if said >= known.now:  # nobody consents tomorrow
        own, said = None, min(_time(change.said), known.now)
    ask = known.asked.latest(key(channel, address))
    person = known.people.get(key(channel, address))
    held = person.channels.get(channel, _NOBODY) if person else _NOBODY
    if _pending(ask, held, known.now) and ask and not ask.subscribed:
        return False
    off = held.off
    if ask and off is not None and not ask.subscribed and _ours(ask, off):
        # It was us: what counts is when the customer said so, and not when we came to
        # send it. Klaviyo takes no time of consent from before it.
        off, own = ask.said, None
    gone = person.off_lists.get(group, 0.0) if person and group else 0.0
    if (off is not None and off > said) or gone > said:
        found.withheld.append("newer")
    elif held.subscribed and not gone:
        pass  # it is so
    elif ask and _same(ask, group) and (held.off or 0.0) <= ask.sent:
        found.withheld.append("repeated")
    else:
        history = own is not None and known.history
        row = found.subscribe.get((group, history), Row({}))
        consented = {**row.consented, channel: own} if own and history else row.consented
        found.subscribe[group, history] = Row(
            {**row.identifiers, channel: address}, consented
        )
        found.took[channel] = change.channels[channel]
        found.asks.append(
            Ask(
                key=key(channel, address),
                subscribed=True,
                said=said,
                sent=known.now,
                group=group,
            )
        )
    return True


def _unsubscribe(
    found: Steps, change: ChangeConsent, channel: Channel, known: Known
) -> bool:
    """Add the channel to what is unsubscribed; false if it must wait."""
    address = identifier(change.identity, channel)
    ask = known.asked.latest(key(channel, address))
    person = known.people.get(key(channel, address))
    held = person.channels.get(channel, _NOBODY) if person else _NOBODY
    pending = _pending(ask, held, known.now)
    if pending and ask and ask.subscribed:
        return False
    if held.unsubscribed or pending:
        return True  # it is so, or will be
    row = found.unsubscribe or Row({})
    found.unsubscribe = Row({**row.identifiers, channel: address})
    found.took[channel] = change.channels[channel]
    said = min(_time(change.said), known.now)
    found.asks.append(
        Ask(key=key(channel, address), subscribed=False, said=said, sent=known.now)
    )
    return True


def _joining(change: ChangeConsent, group: str, known: Known) -> bool:
    """Whether a job of ours may still put the customer on that list."""
    for name in change.identity.names():
        ask = known.asked.latest(name)
        channel: Channel = "email" if name.startswith("e:") else "sms"
        person = known.people.get(name)
        held = person.channels.get(channel, _NOBODY) if person else _NOBODY
        if ask and ask.group == group and _pending(ask, held, known.now):
            return True
    return False


def _pending(ask: Ask | None, held: Held, now: float) -> bool:
    """Whether what we asked for may still take effect."""
    if ask is None or now - ask.sent > APPLIES:
        return False
    return not (held.subscribed if ask.subscribed else held.unsubscribed)


def _same(ask: Ask, group: str | None) -> bool:
    """Whether Klaviyo took the same subscription lately."""
    return ask.subscribed and ask.taken and ask.group == group


def _ours(ask: Ask, off: float) -> bool:
    """Whether the unsubscribing that Klaviyo shows is the one we asked for."""
    return ask.sent - SKEW <= off <= ask.sent + APPLIES + SKEW


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
