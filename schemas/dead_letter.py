"""What a record of the dead-letter topic carries beside the original."""

import msgspec

__all__ = ["DeadLetterHeaders"]


class DeadLetterHeaders(msgspec.Struct):
    """Headers of a dead letter; all of them are text. Those of the original stay."""

    topic: str = msgspec.field(name="__connect.errors.topic")
    partition: str = msgspec.field(name="__connect.errors.partition")
    offset: str = msgspec.field(name="__connect.errors.offset")
    stage: str = msgspec.field(name="__connect.errors.stage")
    kind: str = msgspec.field(name="__connect.errors.exception.class.name")
    message: str = msgspec.field(name="__connect.errors.exception.message")
    reason: str = msgspec.field(name="klaviyo.reason")
    status: str = msgspec.field(name="klaviyo.status")
    code: str = msgspec.field(name="klaviyo.code")
    pointer: str = msgspec.field(name="klaviyo.pointer")
    attempts: str = msgspec.field(name="klaviyo.attempts")
    subscription: str = msgspec.field(name="klaviyo.subscription")
    unique_id: str = msgspec.field(name="klaviyo.unique_id")
    truncated: str | None = msgspec.field(name="klaviyo.truncated", default=None)
    history: str | None = msgspec.field(name="klaviyo.history", default=None)
