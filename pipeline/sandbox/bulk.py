"""Bulk profile import: the job, and the calls that follow it to its end.

A request is validated whole: one malformed e-mail refuses it, with the row's index in the
pointer. Then the job is queued, works, and completes; a row that fails shows up in
import-errors. A null does not clear a field, an invalid phone number is silently not
stored, and several rows of one profile are merged. There is no status "failed".
Sources: Klaviyo, "Bulk Import Profiles API" guide, and the official documents.

Not documented, chosen here: which rows fail after acceptance (an unknown profile id,
identifiers of two profiles, nothing but an invalid phone number), and an unknown list:
400 at /data.
"""

from functools import partial

from pipeline.sandbox.checks import attribute_problems, identity_problem, refuse
from pipeline.sandbox.formats import bad_phone, stamp
from pipeline.sandbox.listing import conditions, order, page_size, paged, sort_key
from pipeline.sandbox.profiles import Conflict, identifiers_of
from pipeline.sandbox.state import Import, State
from pipeline.sandbox.wire import (
    Answer,
    Call,
    Json,
    Problem,
    Refused,
    dump,
    not_found,
)

__all__ = ["create", "errors", "get", "jobs"]

_MAX_ROWS = 10_000
_TOP = "/data/attributes/profiles/data"
_EXPIRES = 7 * 86_400  # s; the documents have expires_at, not how long


def _shown(job: Import, origin: str) -> Json:
    def at(time: float | None) -> str | None:
        return None if time is None else stamp(time)

    link = f"{origin}/api/profile-bulk-import-jobs/{job.id}"
    return {
        "type": "profile-bulk-import-job",
        "id": job.id,
        "attributes": {
            "status": job.status,
            "created_at": stamp(job.created),
            "total_count": job.total,
            "completed_count": job.completed,
            "failed_count": job.failed,
            "started_at": at(job.started_at),
            "completed_at": at(job.completed_at),
            "expires_at": stamp(job.created + _EXPIRES),
        },
        "relationships": {
            "lists": {"data": [{"type": "list", "id": name} for name in job.lists]},
            "profiles": {"links": {"related": f"{link}/profiles"}},
            "import-errors": {"links": {"related": f"{link}/import-errors"}},
        },
        "links": {"self": link},
    }


def create(state: State, call: Call) -> Answer:
    """Accept a job: 202 with the job; nothing is stored yet."""
    data = call.body["data"]
    rows = data["attributes"]["profiles"]["data"]
    if not 0 < len(rows) <= _MAX_ROWS:
        detail = f"A request holds 1 to {_MAX_ROWS} profiles, this one {len(rows)}."
        raise Refused(400, [Problem(detail, _TOP)])
    lists = _lists(state, data)
    problems: list[Problem] = []
    weigh = len(call.raw) > state.settings.max_profile
    for index, row in enumerate(rows):
        place = f"{_TOP}/{index}"
        attributes = row["attributes"]
        problems += attribute_problems(attributes, f"{place}/attributes", phone=False)
        missing = identity_problem(
            attributes, row.get("id"), f"{place}/attributes", sms=True
        )
        if missing:
            problems.append(missing)
        if weigh and len(dump(row)) > state.settings.max_profile:
            problems.append(Problem("A profile must not exceed 100 KB.", place))
    refuse(problems)
    job = Import(state.ids.ulid(), len(rows), call.now, rows, lists)
    state.imports[job.id] = job
    shown = _shown(job, call.origin)  # as it was accepted: queued
    state.later(state.settings.import_queued, partial(_start, state, job))
    if job.status != "complete":
        call.held = True
        job.on_complete = call.release
    return Answer.json(202, {"data": shown, "links": shown["links"]})


def _lists(state: State, data: Json) -> list[str]:
    related = (data.get("relationships") or {}).get("lists") or {}
    lists = [entry["id"] for entry in related.get("data", [])]
    refuse(
        [
            Problem(f"List {name} does not exist.", "/data")
            for name in lists
            if name not in state.lists
        ]
    )
    return lists


def _start(state: State, job: Import) -> None:
    job.status = "processing"
    job.started_at = state.clock.now()
    state.later(state.settings.import_processing, partial(_finish, state, job))


def _finish(state: State, job: Import) -> None:
    now = state.clock.now()
    for index, row in enumerate(job.rows):
        fault = _apply(state, job, row, now)
        if fault is None:
            job.completed += 1
            continue
        job.failed += 1
        job.errors.append(_import_error(state, index, row, fault))
    job.status = "complete"
    job.completed_at = now
    job.rows = []
    job.on_complete()


def _apply(state: State, job: Import, row: Json, now: float) -> Problem | None:
    """Store one row; return why it failed, or None."""
    attributes = row["attributes"]
    identifiers = identifiers_of(attributes)
    if any(value in state.settings.failing_rows for value in identifiers.values()):
        return Problem("This row was told to fail.", "")
    phone = attributes.get("phone_number")
    if phone and bad_phone(phone):
        state.lose("invalid_phone", phone_number=phone, identifiers=identifiers)
        attributes = {k: v for k, v in attributes.items() if k != "phone_number"}
        if identity_problem(attributes, row.get("id"), "", sms=True):
            return Problem("One or more identifiers is required.", "/attributes")
    # At 2023-12-15 meta stood inside the attributes.
    meta = row.get("meta") or attributes.get("meta")
    try:
        profile = state.profiles.upsert(
            attributes,
            identifier=row.get("id"),
            meta=meta,
            now=now,
            merges=state.settings.identity == "merge",
            clears=False,
        ).profile
    except Conflict as conflict:
        return Problem(
            "The identifiers belong to two profiles.",
            "/attributes",
            code="duplicate_profile",
            title="Conflict.",
            meta={"duplicate_profile_id": conflict.other.id},
        )
    except Refused as refused:
        return Problem(refused.problems[0].detail, "/id", code="not_found")
    for name in job.lists:
        state.lists[name].members.setdefault(profile.id, int(now))
    return None


def _import_error(state: State, index: int, row: Json, fault: Problem) -> Json:
    return {
        "type": "import-error",
        "id": state.ids.uuid(),
        "attributes": {
            "code": fault.code,
            "title": fault.title,
            "detail": fault.detail,
            "source": {"pointer": f"{_TOP}/{index}{fault.pointer or ''}"},
            "original_payload": row,
        },
    }


def _found(state: State, call: Call) -> Import:
    job = state.imports.get(call.path[0])
    if job is None:
        raise not_found(f"A job with id {call.path[0]} does not exist.")
    return job


def get(state: State, call: Call) -> Answer:
    """GET /api/profile-bulk-import-jobs/{job_id}."""
    shown = _shown(_found(state, call), call.origin)
    return Answer.json(200, {"data": shown, "links": shown["links"]})


def jobs(state: State, call: Call) -> Answer:
    """GET /api/profile-bulk-import-jobs, oldest first; filter on status."""
    wanted = conditions(call, state.settings.lower_bound_margin)
    _, descending = sort_key(call, "created_at")
    page = paged(
        call,
        lambda: [
            job
            for job in state.imports.values()
            if all(c.holds(job.status) for c in wanted)
        ],
        lambda job: job.created,
        lambda job: job.id,
        cache=order(),
        version=0,
        descending=descending,
        size=page_size(call, 20),
    )
    data = [_shown(job, call.origin) for job in page.rows]
    return Answer.json(200, {"data": data, "links": page.links})


def errors(state: State, call: Call) -> Answer:
    """GET /api/profile-bulk-import-jobs/{id}/import-errors, in the order of the rows."""
    found = _found(state, call).errors
    page = paged(
        call,
        lambda: enumerate(found),
        lambda entry: entry[0],
        lambda entry: str(entry[1]["id"]),
        cache=order(),
        version=0,
        descending=False,
        size=page_size(call, 20),
    )
    return Answer.json(
        200, {"data": [entry[1] for entry in page.rows], "links": page.links}
    )
