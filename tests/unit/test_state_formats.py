"""The state topic over an upgrade and the way back: one release reads the next one's."""

import json
from typing import Any

import msgspec
import pytest

from pipeline.forward import ledger
from pipeline.kafka.format import FORMAT, STAMP, TooNew, check
from pipeline.klaviyo import tokens
from pipeline.replay import account, letters
from pipeline.reverse import cursor, view

# What is kept, as this release writes it. A change here is a change of the format: see
# pipeline/kafka/format.py, and let both forms stand here for a release.
KEPT: dict[type, dict[str, Any]] = {
    ledger._Value: {"job": "J", "rows": [[0, 17]]},
    cursor.Cursor: {"updated": 5, "suppressed": 6, "since": 0, "swept": 0},
    view.Known: {
        "content": {"title": "Dr"},
        "at": 1.0,
        "sent": {"title": 2.0},
        "late": {"title": 3.0},
    },
    view._Told: {"people": [["C-1", 1.0, {"title": "Dr"}]], "late": False},
    tokens.Tokens: {
        "access_token": "a",
        "refresh_token": "r",
        "lifetime": 3600.0,
        "scopes": ["profiles:read"],
        "client_id": "c",
        "obtained": 1.0,
        "serial": 1,
        "account_id": "",
        "account_name": "",
    },
    tokens._Claim: {"until": 1.0},
    account._Progress: {"what": "x", "spans": {"t/0": [1, 9]}, "done": {"t/0": 5}},
    letters.Mark: {"fate": "discarded", "at": 1.0, "why": "x"},
}


@pytest.mark.parametrize("kind", KEPT, ids=lambda kind: kind.__name__)
def test_this_release_reads_its_own_and_the_next_ones(kind: type) -> None:
    kept = KEPT[kind]
    own: object = msgspec.json.decode(json.dumps(kept), type=kind)
    assert json.loads(msgspec.json.encode(own)) == kept, "the format has changed"
    newer = json.dumps(kept | {"of_the_next_release": {"x": [1]}})
    assert msgspec.json.decode(newer, type=kind) == own


def test_formats_next_to_ours_are_read() -> None:
    for headers in ((), STAMP, (("format", b"%d" % (FORMAT + 1)),), (("a", b"9"),)):
        check("klaviyo.state", headers)


@pytest.mark.parametrize("value", [b"%d" % (FORMAT + 2), b"99", b"", b"x", b"\xff"])
def test_what_is_newer_still_is_refused(value: bytes) -> None:
    with pytest.raises(TooNew, match="state holds records of format") as refused:
        check("klaviyo.state", (("format", value),))
    assert refused.value.exit_code == 2
