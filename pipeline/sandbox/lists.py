"""Lists and who is on them; membership is not consent.

Adding and removing takes up to 1,000 profile ids a call and does not move `updated`.
Source: the official documents; Klaviyo, "Profiles API overview".
"""

from collections.abc import Iterator

from pipeline.sandbox.formats import stamp
from pipeline.sandbox.listing import (
    Condition,
    conditions,
    order,
    page_size,
    paged,
    sort_key,
)
from pipeline.sandbox.profile_calls import shown
from pipeline.sandbox.state import List, State
from pipeline.sandbox.wire import Answer, Call, Json, Problem, Refused, not_found

__all__ = ["add", "create", "get", "lists", "member_ids", "members", "remove"]

_PAGE = 10  # lists a page, in every revision
_MAX_IDS = 1_000


def _shown(group: List, call: Call) -> Json:
    link = f"{call.origin}/api/lists/{group.id}"
    attributes: Json = {
        "name": group.name,
        "created": stamp(group.created),
        "updated": stamp(group.updated),
        "opt_in_process": group.opt_in,
    }
    if "profile_count" in call.query.get("additional-fields[list]", ""):
        attributes["profile_count"] = len(group.members)
    return {
        "type": "list",
        "id": group.id,
        "attributes": attributes,
        "relationships": {
            "profiles": {
                "links": {
                    "self": f"{link}/relationships/profiles",
                    "related": f"{link}/profiles",
                }
            }
        },
        "links": {"self": link},
    }


def _found(state: State, call: Call) -> List:
    group = state.lists.get(call.path[0])
    if group is None:
        raise not_found(f"A list with id {call.path[0]} does not exist.")
    return group


def create(state: State, call: Call) -> Answer:
    """POST /api/lists; names need not be unique."""
    attributes = call.body["data"]["attributes"]
    second = int(call.now)
    opt_in = attributes.get("opt_in_process") or state.settings.opt_in
    group = List(state.ids.short(), attributes["name"], second, second, opt_in)
    state.lists[group.id] = group
    data = _shown(group, call)
    return Answer.json(201, {"data": data, "links": data["links"]})


def get(state: State, call: Call) -> Answer:
    """GET /api/lists/{id}."""
    data = _shown(_found(state, call), call)
    return Answer.json(200, {"data": data, "links": data["links"]})


def lists(state: State, call: Call) -> Answer:
    """GET /api/lists: ten a page; filters on name, id, created, updated."""
    wanted = conditions(call, state.settings.lower_bound_margin)
    field, descending = sort_key(call, "id")
    page = paged(
        call,
        lambda: [
            group
            for group in state.lists.values()
            if all(c.holds(getattr(group, c.field)) for c in wanted)
        ],
        lambda group: getattr(group, field),
        lambda group: group.id,
        cache=order(),
        version=0,
        descending=descending,
        size=page_size(call, _PAGE),
    )
    data = [_shown(group, call) for group in page.rows]
    return Answer.json(200, {"data": data, "links": page.links})


def _members(state: State, call: Call) -> tuple[list[tuple[str, int]], Json]:
    group = _found(state, call)
    wanted = conditions(call, state.settings.lower_bound_margin)
    _, descending = sort_key(call, "joined_group_at")

    def fits(identifier: str, joined: int, condition: Condition) -> bool:
        if condition.field == "joined_group_at":
            return condition.holds(joined)
        profile = state.profiles.by_id[identifier]
        return condition.holds(profile.identifiers.get(condition.field))

    def rows() -> Iterator[tuple[str, int]]:
        for identifier, joined in group.members.items():
            if all(fits(identifier, joined, condition) for condition in wanted):
                yield identifier, joined

    page = paged(
        call,
        rows,
        lambda row: row[1],
        lambda row: row[0],
        cache=order(),
        version=0,
        descending=descending,
        size=page_size(call, 20),
    )
    return page.rows, page.links


def members(state: State, call: Call) -> Answer:
    """GET /api/lists/{id}/profiles, by the time of joining."""
    rows, links = _members(state, call)
    data = []
    for identifier, joined in rows:
        entry = shown(call, state.profiles.by_id[identifier])
        entry["attributes"]["joined_group_at"] = stamp(joined)
        data.append(entry)
    return Answer.json(200, {"data": data, "links": links})


def member_ids(state: State, call: Call) -> Answer:
    """GET /api/lists/{id}/relationships/profiles: ids only."""
    rows, links = _members(state, call)
    data = [{"type": "profile", "id": identifier} for identifier, _ in rows]
    return Answer.json(200, {"data": data, "links": links})


def _ids(call: Call) -> list[str]:
    ids = [entry["id"] for entry in call.body["data"]]
    if not 0 < len(ids) <= _MAX_IDS:
        detail = f"A request holds 1 to {_MAX_IDS} profiles, this one {len(ids)}."
        raise Refused(400, [Problem(detail, "/data")])
    return ids


def add(state: State, call: Call) -> Answer:
    """POST /api/lists/{id}/relationships/profiles; an unknown profile is 404."""
    group = _found(state, call)
    ids = _ids(call)
    unknown = [
        Problem(f"A profile with id {name} does not exist.", f"/data/{i}/id", "not_found")
        for i, name in enumerate(ids)
        if name not in state.profiles.by_id
    ]
    if unknown:
        raise Refused(404, unknown)
    for name in ids:
        group.members.setdefault(name, int(call.now))
    return Answer(204)


def remove(state: State, call: Call) -> Answer:
    """DELETE /api/lists/{id}/relationships/profiles; consent stays as it is."""
    group = _found(state, call)
    for name in _ids(call):
        group.members.pop(name, None)
    return Answer(204)
