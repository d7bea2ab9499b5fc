"""The errors that end the program. Each says whether it is retried and who must act.

    PipelineError
    +-- SettingsError       never retried; the user mends the settings (exit 2)
    +-- KafkaUnreachable    start only: the user mends address or network (exit 4)
    +-- OffsetsMissing      never retried; the user says where to start (exit 2)
    +-- OffsetsLost         never retried; records were deleted unread (exit 1)
    +-- what one part alone raises, where it is raised

Outages, 429 and bad credentials are no errors to callers: `klaviyo.session` waits them
out and shows the wait in metrics and `/readyz`. What Klaviyo refuses is a
value, `klaviyo.call.Refused`.
"""

from typing import ClassVar

__all__ = [
    "KafkaUnreachable",
    "OffsetsLost",
    "OffsetsMissing",
    "PipelineError",
    "SettingsError",
]


class PipelineError(Exception):
    """Anything we raise on purpose; the message says what is wrong, where, what to do."""

    exit_code: ClassVar[int] = 1


class SettingsError(PipelineError):
    """The settings cannot be used."""

    exit_code = 2


class KafkaUnreachable(PipelineError):
    """No broker answered, or it refused our credentials, while starting."""

    exit_code = 4


class OffsetsMissing(PipelineError):
    """The consumer group has no offsets and `kafka.start` does not say where to begin."""

    exit_code = 2


class OffsetsLost(PipelineError):
    """Retention deleted records that this group had not read yet."""
