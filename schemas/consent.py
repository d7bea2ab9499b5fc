"""What a customer record says about consent and lists, read into one command.

Two ways to say it: fields between the custom fields, as
`SubscribeProfile`, `LIST_VIP`, `UCLIST_Trial`, and the typed parts `consent` and `lists`.
Where they contradict each other the last one wins: the custom fields in the order of the
record, then `consent`, then `lists.add`, then `lists.remove`.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from schemas.commands import ChangeConsent, Channel, Identity, ListChange, Said
from schemas.event import Field, Losses
from schemas.moment import parsed, written
from schemas.properties import value_of

__all__ = ["LISTS", "SUBSCRIBE", "Consent", "ConsentState", "Lists", "instructions"]

# Custom fields that are instructions, not properties: this one, and these prefixes.
SUBSCRIBE: Final = "SubscribeProfile"
_LISTS: Final[dict[str, ListChange]] = {"LIST_": "add", "UCLIST_": "remove"}
LISTS: Final = tuple(_LISTS)
_YES: Final = frozenset({"true", "yes", "y", "t", "on", "1"})
_NO: Final = frozenset({"false", "no", "n", "f", "off", "0"})
# What the reverse direction publishes of who never said anything; no instruction.
_SILENT: Final = "never_subscribed"


class ConsentState(msgspec.Struct, gc=False):
    """What a customer said about one channel, and when."""

    status: str | None = None
    at: str | None = None


class Consent(msgspec.Struct, gc=False):
    """Consent by channel."""

    email: ConsentState | None = None
    sms: ConsentState | None = None


class Lists(msgspec.Struct, gc=False):
    """Names of lists to be put on and taken off."""

    add: list[str] | None = None
    remove: list[str] | None = None


def instructions(
    who: Identity,
    fields: Mapping[str, Raw],
    consent: Consent | None,
    lists: Lists | None,
    said: str,
    losses: Losses,
) -> ChangeConsent | None:
    """Return the command; None if nothing is left to be done.

    What cannot be read, what is overruled and what is for a channel the customer has no
    identifier for is counted as `consent` or `lists`. `said` is RFC 3339 in UTC.
    """
    reading = _Reading(who, said, losses)
    for name, raw in fields.items():
        reading.field(name, raw)
    if consent is not None:
        reading.typed("email", consent.email)
        reading.typed("sms", consent.sms)
    if lists is not None:
        for name in lists.add or ():
            reading.list(name, "add")
        for name in lists.remove or ():
            reading.list(name, "remove")
    change = reading.change
    return change if change.channels or change.lists else None


class _Reading:
    """One record's instructions, taken in one after the other."""

    def __init__(self, who: Identity, said: str, losses: Losses) -> None:
        self.change = ChangeConsent(who, said, {}, {})
        self._losses = losses
        self._has: dict[Channel, bool] = {
            "email": who.email is not None,
            "sms": who.phone is not None,
        }

    def field(self, name: str, raw: Raw) -> None:
        """Take in `SubscribeProfile`, `LIST_...` or `UCLIST_...`."""
        wanted = self._truth(raw, "consent" if name == SUBSCRIBE else "lists")
        if wanted is None:
            return
        if name == SUBSCRIBE:
            self._profile(subscribed=wanted)
        elif wanted:
            prefix = next(each for each in _LISTS if name.startswith(each))
            self.list(name.removeprefix(prefix), _LISTS[prefix])

    def typed(self, channel: Channel, state: ConsentState | None) -> None:
        """Take in `consent.email` or `consent.sms`."""
        if state is None or not state.status:
            return
        match state.status.strip().lower():
            case "subscribed":
                self._say(channel, Said(True, self._own_time(state.at)))  # noqa: FBT003
            case "unsubscribed":
                self._say(channel, Said(False))  # noqa: FBT003  Klaviyo takes no time
            case word if word != _SILENT:
                self._losses.lose("consent")

    def list(self, name: str, change: ListChange) -> None:
        """Take in what is to happen with one list."""
        name = name.strip()
        lists = self.change.lists
        before = lists.get(name)
        if not name:
            self._losses.lose("lists")
        else:
            if before not in (None, change):
                self._losses.lose("lists")
            lists[name] = change

    def _profile(self, *, subscribed: bool) -> None:
        """Take in the whole profile's word, which names no channel.

        It withdraws every channel there is, but gives e-mail alone: consent to text
        messages has to be express (`consent.sms`).
        """
        if self._has["email"]:
            self._say("email", Said(subscribed))
        if self._has["sms"] and not subscribed:
            self._say("sms", Said(subscribed))
        elif not self._has["email"]:
            self._losses.lose("consent")

    def _say(self, channel: Channel, said: Said) -> None:
        channels = self.change.channels
        if not self._has[channel]:
            self._losses.lose("consent")
            return
        before = channels.get(channel)
        if before is not None and before.subscribed != said.subscribed:
            self._losses.lose("consent")
        channels[channel] = said

    def _own_time(self, at: str | None) -> str | None:
        """The consent's own time; one that nobody can read is none."""
        if at is None or not at.strip():
            return None
        if (given := parsed(at.strip())) is None:
            self._losses.lose("consent")
            return None
        return written(given)

    def _truth(self, raw: Raw, field: Field) -> bool | None:
        """True or false in any usual spelling; None for nothing, or what is neither."""
        value = value_of(raw)
        if value is None:
            return None
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        word = str(value).strip().lower()
        if word in _YES or word in _NO:
            return word in _YES
        if word:
            self._losses.lose(field)
        return None
