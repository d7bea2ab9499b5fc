"""Consent jobs: subscribe, unsubscribe, suppress, unsuppress. All 202, applied later.

- Subscribe: 100 profiles (1,000 from 2024-07-15); `consented_at` only with
  historical_import, where it is required, lies in the past and not before a newer
  unsubscribe. Double opt-in of the list, or of the account without one, holds a
  subscription back unless the import is historical. Lifts UNSUBSCRIBE, SPAM_COMPLAINT and
  USER_SUPPRESSED.
- Unsubscribe: 100 profiles. With a list, a profile that is not on it is unsubscribed
  everywhere. Does not move `updated`.
- Suppress: 100 e-mails, or a list; unsuppress lifts USER_SUPPRESSED only. A job object
  comes back from 2024-10-15 on.

Sources: the official documents; facts seen in a live account.
"""

from collections.abc import Iterator
from functools import partial

from pipeline.sandbox.checks import attribute_problems, identity_problem, refuse
from pipeline.sandbox.consent import CHANNELS
from pipeline.sandbox.formats import instant, stamp
from pipeline.sandbox.profile import Profile
from pipeline.sandbox.profiles import Conflict, identifiers_of
from pipeline.sandbox.state import State
from pipeline.sandbox.wire import Answer, Call, Json, Problem, Refused

__all__ = ["subscribe", "suppress", "unsubscribe", "unsuppress"]

_TOP = "/data/attributes/profiles/data"
_MAX_OLD, _MAX_NEW = (
    100,
    1_000,
)  # profiles in one subscribe job before and from 2024-07-15
_ADVISED = 1_800  # s; "at most one subscribe job per profile per 30 minutes"
_CHANNEL_NEEDS = {"email": "email", "sms": "phone_number", "whatsapp": "phone_number"}


def _count(rows: list[Json], most: int) -> None:
    if not 0 < len(rows) <= most:
        detail = f"A request holds 1 to {most} profiles, this one {len(rows)}."
        raise Refused(400, [Problem(detail, _TOP)])


def _list(state: State, call: Call) -> str | None:
    """Return the list of a job; raise the 400 of an unknown one."""
    related = (call.body["data"].get("relationships") or {}).get("list") or {}
    if "data" not in related:
        return None
    name: str = related["data"]["id"]
    if name not in state.lists:
        place = "/data/relationships/list/data/id"
        raise Refused(400, [Problem(f"List {name} does not exist.", place)])
    return name


def _channels(attributes: Json) -> Iterator[tuple[str, Json]]:
    """Yield the channels a row names, with what it says about each.

    Before 2025-01-15 a row without `subscriptions` means every channel it identifies.
    """
    asked = attributes.get("subscriptions")
    if asked is None:
        if attributes.get("email"):
            yield "email.marketing", {}
        if attributes.get("phone_number"):
            yield "sms.marketing", {}
        return
    for channel, kinds in asked.items():
        for kind, said in (kinds or {}).items():
            if f"{channel}.{kind}" in CHANNELS and said is not None:
                yield f"{channel}.{kind}", said


def _row_problems(row: Json, place: str) -> Iterator[Problem]:
    attributes = row["attributes"]
    inner = f"{place}/attributes"
    yield from attribute_problems(attributes, inner)
    missing = identity_problem(attributes, row.get("id"), inner, sms=True)
    if missing:
        yield missing
    for channel, _ in _channels(attributes):
        need = _CHANNEL_NEEDS.get(channel.partition(".")[0])
        if need and not attributes.get(need) and not row.get("id"):
            detail = f"'{need}' is required to change consent on {channel}."
            yield Problem(detail, f"{inner}/{need}")


def _consented(
    state: State, row: Json, place: str, now: float, *, historical: bool
) -> Iterator[Problem]:
    """Yield what is wrong with consented_at."""
    held = state.profiles.resolve(_named(row))
    for channel, said in _channels(row["attributes"]):
        path = (
            f"{place}/attributes/subscriptions/{channel.replace('.', '/')}/consented_at"
        )
        given = said.get("consented_at")
        if given is None:
            if historical:
                yield Problem("consented_at is required with historical_import.", path)
            continue
        at = instant(given)
        if not historical:
            yield Problem("consented_at needs historical_import.", path)
        elif at is None or at >= now:
            yield Problem("consented_at must be a datetime in the past.", path)
        elif held and held[0].consent.unsubscribed_after(channel, at):
            yield Problem("The profile has unsubscribed since.", path)


def _named(row: Json) -> dict[str, str]:
    named = identifiers_of(row["attributes"])
    if row.get("id"):
        named["id"] = row["id"]
    return named


def subscribe(state: State, call: Call) -> Answer:
    """POST /api/profile-subscription-bulk-create-jobs."""
    attributes = call.body["data"]["attributes"]
    rows = attributes["profiles"]["data"]
    _count(rows, _MAX_NEW if call.revision >= "2024-07-15" else _MAX_OLD)
    group = _list(state, call)
    historical = bool(attributes.get("historical_import"))
    problems: list[Problem] = []
    for index, row in enumerate(rows):
        place = f"{_TOP}/{index}"
        problems += _row_problems(row, place)
        if call.revision >= "2024-07-15":
            problems += _consented(state, row, place, call.now, historical=historical)
    refuse(problems)
    _note(state, rows, group, call.now)
    opt_in = state.lists[group].opt_in if group else state.settings.opt_in
    if opt_in == "single_opt_in" or historical:
        source = attributes.get("custom_source")
        state.later(
            state.settings.subscribe_delay,
            partial(_subscribe, state, rows, group, source),
        )
    else:
        state.lose("waiting_for_opt_in", rows=len(rows))
    return Answer(202)


def _note(state: State, rows: list[Json], group: str | None, now: float) -> None:
    """Count profiles that are subscribed again within 30 minutes, nothing changed."""
    for row in rows:
        for channel, _ in _channels(row["attributes"]):
            key = _told(row, channel)
            before = state.subscribed.get(key)
            if before is not None and now - before[0] < _ADVISED and before[1] == group:
                state.repeats += 1
            state.subscribed[key] = (now, group)


def _told(row: Json, channel: str) -> tuple[str, str]:
    need = _CHANNEL_NEEDS.get(channel.partition(".")[0], "email")
    return channel, str(row["attributes"].get(need) or row.get("id")).lower()


def _subscribe(
    state: State, rows: list[Json], group: str | None, source: str | None
) -> None:
    now = state.clock.now()
    for row in rows:
        profile = _profile(state, row, now)
        if profile is None:
            continue
        for channel, said in _channels(row["attributes"]):
            given = said.get("consented_at")
            at = instant(given) if given else None
            profile.consent.subscribe(channel, now, at=at, source=source)
        if group:
            state.lists[group].members.setdefault(profile.id, int(now))
            profile.consent.list_suppressions.pop(group, None)
        state.profiles.touch(profile, now)


def _profile(state: State, row: Json, now: float) -> Profile | None:
    """Return the profile of a job's row, a new one if there is none."""
    try:
        return state.profiles.upsert(
            dict(identifiers_of(row["attributes"])),
            identifier=row.get("id"),
            meta=None,
            now=now,
            merges=state.settings.identity == "merge",
            clears=False,
        ).profile
    except Conflict as conflict:
        return conflict.target
    except Refused:
        state.lose("unknown_profile_id", id=row.get("id"))
        return None


def unsubscribe(state: State, call: Call) -> Answer:
    """POST /api/profile-subscription-bulk-delete-jobs."""
    rows = call.body["data"]["attributes"]["profiles"]["data"]
    _count(rows, _MAX_OLD)
    group = _list(state, call)
    refuse(
        [
            problem
            for index, row in enumerate(rows)
            for problem in _row_problems(row, f"{_TOP}/{index}")
        ]
    )
    state.later(state.settings.subscribe_delay, partial(_unsubscribe, state, rows, group))
    return Answer(202)


def _unsubscribe(state: State, rows: list[Json], group: str | None) -> None:
    now = state.clock.now()
    for row in rows:
        profile = _profile(state, row, now)
        if profile is None:
            continue
        state.profiles.version += 1  # consent is listed, although `updated` stays
        if group and profile.id in state.lists[group].members:
            del state.lists[group].members[profile.id]
            profile.consent.list_suppressions[group] = now
            continue
        for channel, _ in _channels(row["attributes"]):
            state.subscribed.pop(_told(row, channel), None)
            profile.consent.unsubscribe(channel, now)


def suppress(state: State, call: Call) -> Answer:
    """POST /api/profile-suppression-bulk-create-jobs; creates missing profiles."""
    return _suppression(state, call, on=True)


def unsuppress(state: State, call: Call) -> Answer:
    """POST /api/profile-suppression-bulk-delete-jobs."""
    return _suppression(state, call, on=False)


def _suppression(state: State, call: Call, *, on: bool) -> Answer:
    data = call.body["data"]
    held = (data["attributes"].get("profiles") or {}).get("data")
    group = _list(state, call)
    if (held is None) == (group is None):
        detail = "Either profiles or one list or segment is required."
        raise Refused(400, [Problem(detail, "/data/attributes/profiles")])
    rows = [] if held is None else held
    if held is not None:
        _count(rows, _MAX_OLD)
    refuse(
        [
            problem
            for index, row in enumerate(rows)
            for problem in attribute_problems(
                row["attributes"], f"{_TOP}/{index}/attributes"
            )
        ]
    )
    act = partial(_apply_suppression, state, rows, group, on=on)
    state.later(state.settings.suppress_delay, act)
    if call.revision < "2024-10-15":
        return Answer(202)
    job = {
        "type": data["type"],
        "id": state.ids.ulid(),
        "attributes": {
            "status": "processing",
            "created_at": stamp(call.now),
            "total_count": len(rows),
            "completed_count": 0,
            "skipped_count": 0,
            "completed_at": None,
        },
    }
    return Answer.json(202, {"data": job, "links": {"self": call.url}})


def _apply_suppression(
    state: State, rows: list[Json], group: str | None, *, on: bool
) -> None:
    now = state.clock.now()
    if on:
        found = [_profile(state, row, now) for row in rows]
    else:
        found = [next(iter(state.profiles.resolve(_named(row))), None) for row in rows]
    if group:
        found += [state.profiles.by_id[name] for name in state.lists[group].members]
    for profile in found:
        if profile is None:
            continue
        state.profiles.version += 1
        if on:
            profile.consent.suppressions.setdefault("USER_SUPPRESSED", now)
        else:
            profile.consent.suppressions.pop("USER_SUPPRESSED", None)
