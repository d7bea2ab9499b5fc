"""The calls that write or read one profile: create, update, import, merge, erase, get."""

from pipeline.sandbox.checks import attribute_problems, identity_problem, refuse
from pipeline.sandbox.profile import Profile, resource
from pipeline.sandbox.profiles import Conflict, duplicate, identifiers_of
from pipeline.sandbox.state import State
from pipeline.sandbox.wire import Answer, Call, Json, Problem, Refused, not_found

__all__ = ["create", "create_or_update", "erase", "get", "merge", "shown", "update"]


def shown(call: Call, profile: Profile) -> Json:
    """Return the profile as the call's fields and additional-fields ask for it."""
    only = call.query.get("fields[profile]")
    extra = call.query.get("additional-fields[profile]", "")
    return resource(
        profile,
        call.origin,
        only=only.split(",") if only else (),
        subscriptions="subscriptions" in extra.split(","),
    )


def _document(call: Call, profile: Profile, status: int) -> Answer:
    data = shown(call, profile)
    return Answer.json(status, {"data": data, "links": {"self": data["links"]["self"]}})


def _check(state: State, call: Call, *, identifier: str | None, named: bool) -> Json:
    """Refuse a bad body; return its attributes. `named`: somebody must be identified."""
    attributes: Json = call.body["data"]["attributes"]
    place = "/data/attributes"
    problems = [*attribute_problems(attributes, place)]
    missing = identity_problem(
        attributes, identifier, place, sms=state.settings.sms_enabled
    )
    if named and missing:
        problems.append(missing)
    if len(call.raw) > state.settings.max_profile:
        problems.append(Problem("A profile must not exceed 100 KB.", place))
    refuse(problems)
    return attributes


def create(state: State, call: Call) -> Answer:
    """POST /api/profiles: strict create; 409 when any identifier is taken."""
    attributes = _check(state, call, identifier=None, named=True)
    return _document(call, state.profiles.create(attributes, call.now), 201)


def update(state: State, call: Call) -> Answer:
    """PATCH /api/profiles/{id}: null clears, what is absent is left alone."""
    attributes = _check(state, call, identifier=None, named=False)
    data = call.body["data"]
    if data["id"] != call.path[0]:
        raise Refused(400, [Problem("The id is not that of the path.", "/data/id")])
    profile = state.profiles.update(call.path[0], attributes, data.get("meta"), call.now)
    return _document(call, profile, 200)


def create_or_update(state: State, call: Call) -> Answer:
    """POST /api/profile-import: 201 created, 200 updated, the full profile either way."""
    data = call.body["data"]
    identifier = data.get("id")
    attributes = _check(state, call, identifier=identifier, named=True)
    try:
        written = state.profiles.upsert(
            attributes,
            identifier=identifier,
            meta=data.get("meta"),
            now=call.now,
            merges=state.settings.identity == "merge",
            clears=True,
        )
    except Conflict as conflict:
        # An id together with somebody else's identifier has been seen to answer 404.
        if identifier:
            detail = f"A profile with id {identifier} does not exist."
            raise not_found(detail, "/data/id") from None
        raise duplicate(conflict.other.id) from None
    return _document(call, written.profile, 201 if written.created else 200)


def get(state: State, call: Call) -> Answer:
    """GET /api/profiles/{id}; a merged or deleted one is 404."""
    profile = state.profiles.owner("id", call.path[0])
    if profile is None:
        raise not_found(f"A profile with id {call.path[0]} does not exist.")
    return _document(call, profile, 200)


def merge(state: State, call: Call) -> Answer:
    """POST /api/profile-merge: one source into the destination; the source disappears."""
    data = call.body["data"]
    destination = data["id"]
    sources = data["relationships"]["profiles"]["data"]
    if len(sources) != 1:
        place = "/data/relationships/profiles/data"
        raise Refused(400, [Problem("Exactly one source profile is accepted.", place)])
    source = sources[0]["id"]
    for identifier in (destination, source):
        if state.profiles.owner("id", identifier) is None:
            raise not_found(f"A profile with id {identifier} does not exist.")
    if source == destination:
        raise Refused(400, [Problem("A profile cannot be merged into itself.", "/data")])

    def act() -> None:
        held = state.profiles.by_id
        if source in held and destination in held:
            state.profiles.merge(held[source], held[destination], state.clock.now())

    state.later(state.settings.merge_delay, act)
    link = f"{call.origin}/api/profiles/{destination}"
    document = {
        "data": {"type": "profile", "id": destination, "links": {"self": link}},
        "links": {"self": link},
    }
    return Answer.json(201, document)


def erase(state: State, call: Call) -> Answer:
    """POST /api/data-privacy-deletion-jobs: exactly one of id, email, phone_number."""
    place = "/data/attributes/profile/data"
    data = call.body["data"]["attributes"]["profile"]["data"]
    named = identifiers_of(data["attributes"])
    if data.get("id"):
        named["id"] = data["id"]
    if len(named) != 1:
        raise Refused(400, [Problem("Exactly one identifier is accepted.", place)])
    refuse([*attribute_problems(data["attributes"], f"{place}/attributes")])

    def act() -> None:
        for profile in state.profiles.resolve(named):
            state.deleted.append(profile.id)
            state.profiles.delete(profile)

    state.later(state.settings.merge_delay, act)
    return Answer(202)
