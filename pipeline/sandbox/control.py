"""The control API under /sandbox/: look at everything, change anything, no credential.

GET    /sandbox/             where to look: the addresses of what follows
GET    /sandbox/state        counts: profiles, events, metrics, lists, jobs, requests,
                             violations, throttled, duplicates_sent, losses, in_flight
GET    /sandbox/profiles     {"data": [profile resource + "lists", "secondary_emails"]}
                             with subscriptions; /ID for one
POST   /sandbox/profiles     {"attributes": {...}} a profile made by hand; 201
PATCH  /sandbox/profiles/ID  a marketer's edit: {"attributes": {...}, "meta": {...},
                             "consent": {"email.marketing": "SUBSCRIBED|UNSUBSCRIBED"},
                             "suppress": "HARD_BOUNCE"}; null clears, all parts optional
DELETE /sandbox/profiles/ID  204
GET    /sandbox/events       {"data": [{id, profile_id, metric, unique_id, time, value,
                             value_currency, backfill, properties, received}], "total"};
                             ?metric= name, ?profile= id, ?offset=, ?limit=
GET    /sandbox/lists        {"data": [{id, name, opt_in_process, members: [profile id]}]}
GET    /sandbox/jobs         {"data": [{id, status, total, completed, failed, errors}]}
GET    /sandbox/requests     {"data": [ledger entries], "total"}, oldest first;
                             ?operation=POST /api/events, ?status=429, ?limit= newest
GET    /sandbox/violations   {"violations": [...], "count", "throttled", "losses": [...],
                             "duplicates_sent", "repeated": [[profile id, metric id,
                             unique_id]]}
GET    /sandbox/usage        {"operations": {"POST /api/events": {"statuses": {"202": n},
                             "seconds": {"<monotonic second>": {requests, accepted, rows,
                             throttled}}, "minutes": same}}, "now": monotonic,
                             "windows": {"POST /api/events": [{start, used}]}}
POST   /sandbox/spend        {"operation": "POST /api/events", "count": 100}: another user
                             of the same account takes from the windows
GET    /sandbox/faults       {"data": [rules]}; the form is in `faults.py`
PUT    /sandbox/faults       a list of rules replaces all; POST adds one or a list
DELETE /sandbox/faults       takes all away
GET    /sandbox/oauth        {"installs", "authorized", "refreshed", "refused", "revoked"}
POST   /sandbox/oauth        {"do": "expire"} ends all access tokens, {"do": "uninstall"}
                             is a user who removes the app inside Klaviyo
GET    /sandbox/settings     all settings; the names are in `settings.py`
PUT    /sandbox/settings     an object with the ones to change
POST   /sandbox/reset        forget data, ledger, windows, faults and changed settings

A mistake is answered with 400 or 404 and {"error": "..."}.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
from aiohttp import web

from pipeline.sandbox.events import Event
from pipeline.sandbox.faults import Rule
from pipeline.sandbox.profile import Profile, resource
from pipeline.sandbox.revision import shapes
from pipeline.sandbox.structure.load import REVISIONS, operations
from pipeline.sandbox.wire import Json, Refused

if TYPE_CHECKING:
    from pipeline.sandbox.server import Sandbox

__all__ = ["handle"]


def handle(sandbox: "Sandbox", request: web.Request, raw: bytes) -> web.Response:
    """Answer one request of the control API."""
    parts = request.path.strip("/").split("/")[1:]
    act = _ACTIONS.get((request.method, parts[0] if parts else ""))
    if act is None:
        return _answer(404, {"error": f"no {request.method} {request.path}"})
    try:
        body = orjson.loads(raw) if raw else None
        status, value = act(sandbox, parts[1:], dict(request.query), body)
    except KeyError as error:
        return _answer(404, {"error": f"not found: {error}"})
    except Refused as refused:
        problems = [problem.detail for problem in refused.problems]
        return _answer(refused.status, {"error": "; ".join(problems)})
    except (TypeError, ValueError, AttributeError) as error:
        # msgspec.ValidationError and orjson.JSONDecodeError are ValueErrors.
        return _answer(400, {"error": str(error)})
    return _answer(status, value)


def _answer(status: int, value: object) -> web.Response:
    body = b"" if value is None else orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS)
    return web.Response(status=status, body=body, content_type="application/json")


def _index(sandbox: "Sandbox", *_: object) -> tuple[int, Json]:
    looks = [name for method, name in _ACTIONS if method == "GET" and name]
    return 200, {name: f"{sandbox.url}/sandbox/{name}" for name in looks}


def _state(sandbox: "Sandbox", *_: object) -> tuple[int, Json]:
    state, ledger = sandbox.state, sandbox.ledger
    return 200, {
        "profiles": len(state.profiles.by_id),
        "events": state.events.count,
        "metrics": {metric.name: metric.id for metric in state.events.metrics()},
        "lists": len(state.lists),
        "jobs": len(state.imports),
        "deleted": state.deleted,
        "requests": sum(sum(counts.values()) for counts in ledger.statuses.values()),
        "statuses": ledger.statuses,
        "violations": ledger.violation_count,
        "throttled": ledger.throttled,
        "duplicates_sent": state.events.duplicates,
        "losses": len(state.losses),
        "in_flight": ledger.in_flight,
    }


def _whole(sandbox: "Sandbox", profile: Profile) -> Json:
    shown = resource(profile, sandbox.url, subscriptions=True)
    lists = sandbox.state.lists.values()
    shown["lists"] = [group.id for group in lists if profile.id in group.members]
    shown["secondary_emails"] = profile.secondary_emails
    return shown


def _profiles(sandbox: "Sandbox", parts: list[str], *_: object) -> tuple[int, Json]:
    if parts:
        return 200, {"data": _whole(sandbox, sandbox.state.profiles.by_id[parts[0]])}
    return 200, {"data": [_whole(sandbox, profile) for profile in sandbox.state.profiles]}


def _make(
    sandbox: "Sandbox", _: list[str], __: dict[str, str], body: Json
) -> tuple[int, Json]:
    now = sandbox.state.clock.now()
    profile = sandbox.state.profiles.create(body["attributes"], now)
    return 201, {"data": _whole(sandbox, profile)}


def _edit(
    sandbox: "Sandbox", parts: list[str], _: dict[str, str], body: Json
) -> tuple[int, Json]:
    state = sandbox.state
    now = state.clock.now()
    profile = state.profiles.by_id[parts[0]]
    state.profiles.update(profile.id, body.get("attributes", {}), body.get("meta"), now)
    for channel, status in body.get("consent", {}).items():
        if status == "SUBSCRIBED":
            profile.consent.subscribe(channel, now)
            state.profiles.touch(profile, now)
        else:
            profile.consent.unsubscribe(channel, now)
    if reason := body.get("suppress"):
        profile.consent.suppressions[reason] = now
    state.profiles.version += 1
    return 200, {"data": _whole(sandbox, profile)}


def _remove(sandbox: "Sandbox", parts: list[str], *_: object) -> tuple[int, None]:
    profiles = sandbox.state.profiles
    profiles.delete(profiles.by_id[parts[0]])
    return 204, None


def _events(
    sandbox: "Sandbox", _: list[str], query: dict[str, str], __: object
) -> tuple[int, Json]:
    state = sandbox.state
    names = {metric.id: metric.name for metric in state.events.metrics()}
    chosen: Iterator[Event] = iter(state.events)
    if "profile" in query:
        chosen = iter(state.events.of_profile(query["profile"]))
    wanted = query.get("metric")
    found = [e for e in chosen if wanted in (None, names[e.metric])]
    start = int(query.get("offset", 0))
    stop = start + int(query.get("limit", len(found)))
    data = [
        {
            "id": event.id,
            "profile_id": event.profile,
            "metric": names[event.metric],
            "unique_id": event.unique_id,
            "time": event.time,
            "value": event.value,
            "value_currency": event.currency,
            "backfill": event.backfill,
            "properties": orjson.Fragment(event.properties),
            "received": event.received,
        }
        for event in found[start:stop]
    ]
    return 200, {"data": data, "total": len(found)}


def _lists(sandbox: "Sandbox", *_: object) -> tuple[int, Json]:
    data = [
        {
            "id": group.id,
            "name": group.name,
            "opt_in_process": group.opt_in,
            "members": list(group.members),
        }
        for group in sandbox.state.lists.values()
    ]
    return 200, {"data": data}


def _jobs(sandbox: "Sandbox", *_: object) -> tuple[int, Json]:
    data = [
        {
            "id": job.id,
            "status": job.status,
            "total": job.total,
            "completed": job.completed,
            "failed": job.failed,
            "errors": job.errors,
        }
        for job in sandbox.state.imports.values()
    ]
    return 200, {"data": data}


def _requests(
    sandbox: "Sandbox", _: list[str], query: dict[str, str], __: object
) -> tuple[int, Json]:
    operation, status = query.get("operation"), query.get("status")
    found = [
        entry
        for entry in sandbox.ledger.entries
        if operation in (None, entry.operation) and status in (None, str(entry.status))
    ]
    chosen = found[-int(query["limit"]) :] if "limit" in query else found
    return 200, {"data": msgspec.to_builtins(chosen), "total": len(found)}


def _violations(sandbox: "Sandbox", *_: object) -> tuple[int, Json]:
    ledger, events = sandbox.ledger, sandbox.state.events
    return 200, {
        "violations": msgspec.to_builtins(list(ledger.violations)),
        "count": ledger.violation_count,
        "throttled": ledger.throttled,
        "duplicates_sent": events.duplicates,
        "repeated": list(events.repeated),
        "losses": list(sandbox.state.losses),
    }


def _usage(sandbox: "Sandbox", *_: object) -> tuple[int, Json]:
    ledger = sandbox.ledger
    usage: Json = {
        operation: {
            "statuses": ledger.statuses[operation],
            "seconds": msgspec.to_builtins(ledger.seconds[operation], str_keys=True),
            "minutes": msgspec.to_builtins(ledger.minutes[operation], str_keys=True),
        }
        for operation in ledger.statuses
    }
    windows = {
        name: [{"start": spent.start, "used": spent.used} for spent in spans]
        for name, spans in sandbox.account.windows.usage().items()
    }
    return 200, {"operations": usage, "windows": windows, "now": sandbox.now()}


def _spend(
    sandbox: "Sandbox", _: list[str], __: dict[str, str], body: Json
) -> tuple[int, None]:
    known = operations(shapes(REVISIONS[-1]))
    operation = known[body["operation"]]
    sandbox.account.windows.take(operation, int(body["count"]), sandbox.settings)
    return 204, None


def _faults(sandbox: "Sandbox", *_: object) -> tuple[int, Json]:
    return 200, {"data": msgspec.to_builtins(sandbox.faults.rules)}


def _add_faults(
    sandbox: "Sandbox", _: list[str], __: dict[str, str], body: object
) -> tuple[int, Json]:
    given = body if isinstance(body, list) else [body]
    sandbox.faults.add(*msgspec.convert(given, list[Rule]))
    return _faults(sandbox)


def _put_faults(
    sandbox: "Sandbox", _: list[str], __: dict[str, str], body: object
) -> tuple[int, Json]:
    given = msgspec.convert(body if isinstance(body, list) else [body], list[Rule])
    sandbox.faults.clear()
    sandbox.faults.add(*given)
    return _faults(sandbox)


def _clear_faults(sandbox: "Sandbox", *_: object) -> tuple[int, None]:
    sandbox.faults.clear()
    return 204, None


def _oauth(sandbox: "Sandbox", *_: object) -> tuple[int, Json]:
    return 200, {"installs": len(sandbox.oauth.installs), **sandbox.oauth.counts}


def _act_oauth(
    sandbox: "Sandbox", _: list[str], __: dict[str, str], body: Json
) -> tuple[int, Json]:
    {"expire": sandbox.oauth.expire, "uninstall": sandbox.oauth.uninstall}[body["do"]]()
    return _oauth(sandbox)


def _settings(sandbox: "Sandbox", *_: object) -> tuple[int, Json]:
    return 200, msgspec.to_builtins(sandbox.settings)


def _put_settings(
    sandbox: "Sandbox", _: list[str], __: dict[str, str], body: Json
) -> tuple[int, Json]:
    sandbox.settings = sandbox.settings.changed(body)
    return _settings(sandbox)


def _reset(sandbox: "Sandbox", *_: object) -> tuple[int, None]:
    sandbox.reset()
    return 204, None


_Action = Callable[["Sandbox", list[str], dict[str, str], Any], tuple[int, Json | None]]

_ACTIONS: dict[tuple[str, str], _Action] = {
    ("GET", ""): _index,
    ("GET", "state"): _state,
    ("GET", "profiles"): _profiles,
    ("POST", "profiles"): _make,
    ("PATCH", "profiles"): _edit,
    ("DELETE", "profiles"): _remove,
    ("GET", "events"): _events,
    ("GET", "lists"): _lists,
    ("GET", "jobs"): _jobs,
    ("GET", "requests"): _requests,
    ("GET", "violations"): _violations,
    ("GET", "usage"): _usage,
    ("POST", "spend"): _spend,
    ("GET", "faults"): _faults,
    ("POST", "faults"): _add_faults,
    ("PUT", "faults"): _put_faults,
    ("DELETE", "faults"): _clear_faults,
    ("GET", "oauth"): _oauth,
    ("POST", "oauth"): _act_oauth,
    ("GET", "settings"): _settings,
    ("PUT", "settings"): _put_settings,
    ("POST", "reset"): _reset,
}
