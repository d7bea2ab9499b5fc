"""How changes come back from Klaviyo."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator

from pipeline.settings.sections.section import Section
from pipeline.settings.values import Seconds, lower, moment, not_bool

__all__ = ["Reverse"]


class Reverse(Section):
    """How changes come back from Klaviyo."""

    enabled: bool = Field(
        default=True, description="Whether profiles changed in Klaviyo are published."
    )
    interval: Seconds = Field(default=10, description="Seconds between two polls.")
    overlap: Annotated[float, BeforeValidator(not_bool)] = Field(
        default=30,
        ge=0,
        allow_inf_nan=False,
        description="Seconds read again each time, for profiles that are listed late.",
    )
    settle: Annotated[float, BeforeValidator(not_bool)] = Field(
        default=10,
        ge=0,
        allow_inf_nan=False,
        description="Seconds by Klaviyo's clock before a change is read.",
    )
    consent_interval: Seconds = Field(
        default=30, description="Seconds between two looks for unsubscribed profiles."
    )
    sweep_interval: Seconds = Field(
        default=86_400,
        description="Seconds between two readings of all profiles: finds deleted and "
        "merged ones.",
    )
    start: Annotated[str, BeforeValidator(moment)] = Field(
        default="now",
        description="Where the first poll begins: `now`, `all` or a time.",
    )
    folder: str = Field(
        default="",
        description="Where what was published is kept while it runs, about 1 GB for a "
        "million profiles; blank: the system's folder for temporary files.",
    )
    key: Annotated[Literal["external_id", "profile_id"], BeforeValidator(lower)] = Field(
        default="external_id",
        description="Key of the messages; a profile without external id has its own.",
    )

    @field_validator("start")
    @classmethod
    def _when(cls, value: str) -> str:
        if value not in {"now", "all"}:
            try:
                datetime.fromisoformat(value)
            except ValueError:
                raise ValueError(
                    "must be now, all, or a time as 2026-11-01T00:00:00Z"
                ) from None
        return value

    def since(self, now: float) -> int:
        """Return where the first poll begins, Unix seconds; `now` is Klaviyo's."""
        if self.start in {"now", "all"}:
            return int(now) if self.start == "now" else 0
        at = datetime.fromisoformat(self.start)
        return max(0, int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()))
