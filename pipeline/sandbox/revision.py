"""Which revision serves a call.

A revision lives two years: one stable, one deprecated. A retired one is served by the
next oldest that is alive ("falls forward"), or refused with 410 when the call opts out.
Source: Klaviyo, "API versioning and deprecation policy".

Not documented, chosen here: a blank, malformed or `.pre` revision, one that is not
released yet, and a date between releases are answered with 400.
"""

import datetime as dt
import re
from collections.abc import Mapping
from functools import lru_cache

from pipeline.sandbox.structure.load import REVISIONS
from pipeline.sandbox.wire import Problem, Refused

__all__ = ["ASKED", "OPT_OUT", "SERVED", "alive", "serve", "shapes"]

ASKED = "revision"
SERVED = "X-Klaviyo-Api-Revision"
OPT_OUT = "X-Klaviyo-Revision-Fall-Forward-Opt-Out"

# Released without a specification at hand; its bodies are those of the one before it.
_WITHOUT_DOCUMENT = {"2026-10-15": "2026-07-15"}
RELEASED = tuple(sorted({*REVISIONS, *_WITHOUT_DOCUMENT}))
_LIFE = 2  # years
_FORM = re.compile(r"\d{4}-\d{2}-\d{2}")


def _retires(revision: str) -> str:
    return f"{int(revision[:4]) + _LIFE}{revision[4:]}"


@lru_cache(maxsize=64)
def alive(today: str) -> tuple[str, ...]:
    """Return what is released and not retired on `today`, oldest first."""
    return tuple(r for r in RELEASED if r <= today < _retires(r))


def shapes(revision: str) -> str:
    """Return the revision whose document describes the bodies of `revision`."""
    return _WITHOUT_DOCUMENT.get(revision, revision)


def _invalid(detail: str) -> Refused:
    return Refused(400, [Problem(detail, parameter=ASKED)])


def serve(headers: Mapping[str, str], today: str) -> str:
    """Return the revision that serves a call with `headers` on `today` (YYYY-MM-DD).

    Raises `Refused`: 400 for a header that names no revision, 410 for a retired revision
    with the opt-out header.
    """
    asked = headers.get(ASKED, "").strip()
    living = alive(today)
    if asked in living:
        return asked
    if not asked:
        raise _invalid("The revision header is required.")
    if not _FORM.fullmatch(asked) or not _is_date(asked):
        raise _invalid(f"'{asked}' is not a valid revision.")
    if asked >= living[0]:
        raise _invalid(f"'{asked}' is not an available revision.")
    if headers.get(OPT_OUT, "").strip() == "1":
        raise Refused(
            410,
            [
                Problem(
                    f"Revision {asked} is retired.",
                    code="retired",
                    title="This revision has been retired.",
                    parameter=ASKED,
                )
            ],
            {SERVED: living[0]},
        )
    return living[0]


def _is_date(text: str) -> bool:
    try:
        dt.date.fromisoformat(text)
    except ValueError:
        return False
    return True
