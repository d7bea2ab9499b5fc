"""What becomes of records on their way to Klaviyo."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, ByteSize, Field, create_model, field_validator

from pipeline.settings.sections.section import Section
from pipeline.settings.values import Bytes, Count, Seconds, blank, lower, not_bool, upper
from schemas.registry import METRICS

__all__ = ["Audit", "Consent", "Deletes", "Deliver", "Events", "Profile"]

_Metric = Annotated[str, Field(min_length=1, max_length=127)]  # POST /api/events: < 128

if TYPE_CHECKING:

    class Events(Section):
        """Metric names in Klaviyo, by the settings the event types declare."""

        def __getattr__(self, setting: str) -> str:
            """Return the name of one."""
else:
    Events = create_model(
        "Events",
        __base__=Section,
        __doc__="Metric names in Klaviyo, one per metric that an event type declares.",
        **{
            metric.setting: (
                _Metric,
                Field(default=metric.name, description=f"Metric of {metric.of}."),
            )
            for metric in METRICS.values()
        },
    )


class Profile(Section):
    """How customers become profiles."""

    identity_conflict: Annotated[
        Literal["drop_identifier", "dead_letter", "merge"], BeforeValidator(lower)
    ] = Field(
        default="drop_identifier",
        description="When identifiers point to two profiles: leave the weaker ones out, "
        "dead-letter the record, or merge the profiles, which cannot be undone.",
    )
    default_country: Annotated[str, BeforeValidator(upper)] = Field(
        default="",
        description="Country (ISO 3166, two letters) of phones without one, when the "
        "address has none.",
    )

    @field_validator("default_country")
    @classmethod
    def _country(cls, value: str) -> str:
        from phonenumbers import SUPPORTED_REGIONS  # noqa: PLC0415  slow, seldom needed

        if value and value not in SUPPORTED_REGIONS:
            raise ValueError(
                "must be a two-letter ISO 3166 country code, such as US or GB"
            )
        return value


class Consent(Section):
    """Who may be written to, and the lists they are on."""

    writes: bool = Field(
        default=False,
        description="Whether consent, `SubscribeProfile`, `LIST_*`, `UCLIST_*` and "
        "`lists` reach Klaviyo; false leaves them undone, counted as `consent_off`.",
    )
    list: str = Field(
        default="",
        description="Name of the list to subscribe to when the record names none; "
        "blank is none.",
    )
    create_lists: bool = Field(
        default=False,
        description="Whether a named list that does not exist is created.",
    )


class Deliver(Section):
    """Bounds of the forward direction."""

    malformed_limit: Count = Field(
        default=100,
        description="So many records in a row that cannot be delivered, whatever the "
        "reason, or half of the last 1,000, halt the flow.",
    )
    buffer_bytes: Bytes = Field(
        default=ByteSize(64 * 2**20), description="Bytes that may be in flight."
    )
    buffer_records: Count = Field(
        default=50_000, description="Records that may be in flight."
    )
    backfill_after: Annotated[Seconds | None, BeforeValidator(blank)] = Field(
        default=None,
        description="Events that happened more seconds ago are sent as history, for "
        "which no flow fires; blank is none. Needs a revision from 2026-04-15 on.",
    )


class Deletes(Section):
    """What a deleted customer does."""

    policy: Annotated[Literal["ignore", "suppress", "erase"], BeforeValidator(lower)] = (
        Field(
            default="ignore",
            description="`customer.deleted` and tombstones: ignore, suppress (no e-mail "
            "any more), or erase for good, which needs secrets.key.",
        )
    )


class Audit(Section):
    """Looking after what Klaviyo accepted."""

    sample: Annotated[int, BeforeValidator(not_bool)] = Field(
        default=10_000,
        ge=0,
        description="One of so many accepted events and profiles is read back later and "
        "compared; 0 is none.",
    )
