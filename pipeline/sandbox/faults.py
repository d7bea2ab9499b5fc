"""Scripted faults: rules that make chosen requests go wrong.

A rule is `{"match": {...}, "action": {...}}`; `PUT /sandbox/faults` takes a list of them.
All parts of `match` are optional and must hold together; the first rule that fires wins.

match
    method, path (regular expression, searched), contains (text in the body)
    after          let so many matches pass first
    nth            only the n-th match, counted from 1
    times          fire at most so often
    probability    fire with this chance, 0 to 1
    seconds        fire only so long after the rule was added
action.kind
    status         answer `status` with `headers` and `body` (JSON, or text as it is);
                   `retry_after` is sent as it is, also garbage or an HTTP date.
                   `processed` true: the request is served first, then answered so;
                   `$credential` in the body becomes the one the request came with
    reset_before   close the connection before processing
    reset_after    process, then close the connection without an answer
    hang_before    wait `seconds` before processing, then close the connection
    hang_after     process, wait `seconds`, then close the connection
    garbage        process, then answer `status` (200) with `text` (HTML by default)
    truncate       process, then answer with the first half of the true body
    bomb           process, then answer with gzip that unpacks to 64 MB
    drip           process, then send the true answer in pieces over `seconds`
    delay          wait `seconds`, then go on as usual
"""

import random
import re
from typing import Any, Literal

import msgspec

from pipeline.sandbox.clock import Clock

__all__ = ["Action", "Faults", "Match", "Rule"]

_HTML = "<!DOCTYPE html><html><body><h1>Bad gateway</h1></body></html>"


class Match(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which requests a rule is about."""

    method: str | None = None
    path: str | None = None
    contains: str | None = None
    after: int = 0
    nth: int | None = None
    times: int | None = None
    probability: float = 1.0
    seconds: float | None = None


class Action(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What happens to a request that a rule hits."""

    kind: Literal[
        "status",
        "reset_before",
        "reset_after",
        "hang_before",
        "hang_after",
        "garbage",
        "truncate",
        "bomb",
        "drip",
        "delay",
    ]
    status: int | None = None
    headers: dict[str, str] = {}
    retry_after: str | int | None = None
    body: Any = None
    text: str = _HTML
    seconds: float = 0.0
    processed: bool = False


class Rule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One scripted fault; `matched` and `fired` count."""

    action: Action
    match: Match = msgspec.field(default_factory=Match)
    matched: int = 0
    fired: int = 0
    added: float = 0.0  # monotonic seconds, set when the rule is added


class Faults:
    """The rules in force."""

    def __init__(self, clock: Clock, seed: int = 0) -> None:
        """Start without rules."""
        self._clock = clock
        self._random = random.Random(seed)  # noqa: S311 - chances of a test, not secrets
        self.rules: list[Rule] = []

    def add(self, *rules: Rule) -> None:
        """Put rules into force, after those already there."""
        for rule in rules:
            rule.added = self._clock.monotonic()
            self.rules.append(rule)

    def clear(self) -> None:
        """Take all rules away."""
        self.rules.clear()

    def hit(self, method: str, path: str, body: bytes) -> Action | None:
        """Return the action for a request, None when no rule fires."""
        for rule in self.rules:
            if self._fires(rule, method, path, body):
                rule.fired += 1
                return rule.action
        return None

    def _fires(self, rule: Rule, method: str, path: str, body: bytes) -> bool:
        match = rule.match
        age = self._clock.monotonic() - rule.added
        about = (
            match.method in (None, method)
            and (match.path is None or re.search(match.path, path) is not None)
            and (match.contains is None or match.contains.encode() in body)
            and (match.seconds is None or age < match.seconds)
        )
        if not about:
            return False
        rule.matched += 1
        due = (
            rule.matched > match.after
            and match.nth in (None, rule.matched)
            and (match.times is None or rule.fired < match.times)
        )
        return due and (
            match.probability >= 1 or self._random.random() < match.probability
        )
