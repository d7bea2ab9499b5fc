"""What each event type's examples become: message, commands, request bodies.

`python -m tests.golden.write` writes the files anew; read the difference before it is
committed, because it is what changes for users.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from schemas import klaviyo, privacy
from schemas.commands import (
    ChangeConsent,
    Command,
    CreateEvent,
    EraseProfile,
    SuppressProfile,
    UpsertProfile,
)
from schemas.envelope import decode
from schemas.event import Context, Event, Plan
from schemas.registry import EVENT_TYPES, EventType

FOLDER: Final = Path(__file__).parent
REVISIONS: Final = (
    "2025-01-15",
    "2026-07-15",
)  # the oldest and newest we have papers for
TIMESTAMP: Final = 1_793_527_200_000  # ms; of the Kafka record, 2026-11-01T10:00:00Z
_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


def body(command: Command, revision: str) -> msgspec.Raw:
    match command:
        case UpsertProfile():
            return msgspec.Raw(klaviyo.profile_import(command, revision))
        case CreateEvent():
            return msgspec.Raw(klaviyo.event(command, revision))
        case ChangeConsent():
            raise AssertionError("only with consent.writes")
        case SuppressProfile():
            return msgspec.Raw(privacy.suppression([command.identity.email or ""]))
        case EraseProfile():
            return msgspec.Raw(privacy.deletion("01ARZ3NDEKTSV4RRFFQ69G5FAV"))


def golden(example: bytes) -> bytes:
    """Return the content of one golden file."""
    told: dict[str, Any] = {"1 message": msgspec.Raw(example)}
    event = decode(example, ())
    outcome = event.commands(Context(), TIMESTAMP) if isinstance(event, Event) else event
    if isinstance(outcome, Plan):
        told["2 plan"] = outcome
        told["3 requests"] = {
            revision: [body(command, revision) for command in outcome.commands]
            for revision in REVISIONS
        }
    else:
        told["2 outcome"] = outcome
    return msgspec.json.format(_ENCODER.encode(told), indent=1) + b"\n"


def files(kind: EventType) -> dict[Path, bytes]:
    """Return the golden files of one event type by their paths."""
    return {
        FOLDER / f"{kind.tag}-{number}.json": golden(example)
        for number, example in enumerate(kind.examples, 1)
    }


def main() -> None:
    """Write them all, and remove those of examples that are no more."""
    wanted = {p: c for kind in EVENT_TYPES.values() for p, c in files(kind).items()}
    for path in set(FOLDER.glob("*.json")) - wanted.keys():
        path.unlink()
    for path, content in wanted.items():
        path.write_bytes(content)


if __name__ == "__main__":
    main()
