"""The process itself: its name, its page, its log, what it seals and traces."""

import re
import unicodedata
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, model_validator

from pipeline.settings.sections.section import Section
from pipeline.settings.values import Name, lower, not_bool

__all__ = ["Http", "Log", "Sealing", "Subscription", "Tracing"]


class Subscription(Section):
    """Who we are, to Kafka and to Klaviyo."""

    name: Name = Field(
        default="Klaviyo Integration",
        description="Unique name; its slug names the consumer group.",
    )
    version: str = Field(
        default="v1.0",
        pattern=r"^[A-Za-z0-9._+~-]{1,40}$",
        description="Version of the integration, sent in the User-Agent.",
    )

    @property
    def slug(self) -> str:
        """The name in the letters a Kafka group may have: `klaviyo-integration`."""
        plain = (
            unicodedata.normalize("NFKD", self.name).encode("ascii", "ignore").decode()
        )
        return re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")

    @model_validator(mode="after")
    def _sluggable(self) -> Self:
        if not self.slug:
            raise ValueError(
                "name must have at least one letter a-z or digit, for its slug"
            )
        return self


class Http(Section):
    """Where /livez, /readyz and /metrics answer."""

    host: Name = Field(default="0.0.0.0", description="Address to listen on.")  # noqa: S104  probes come from outside the pod
    port: Annotated[int, BeforeValidator(not_bool)] = Field(
        default=8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one."
    )


class Sealing(Section):
    """What seals the tokens that are stored."""

    key: SecretStr = Field(
        default=SecretStr(""),
        description="Fernet key that seals stored tokens, needed with OAuth; to change "
        "it, put the new one before the old one with a comma between them.",
    )


class Tracing(Section):
    """Spans, by OpenTelemetry."""

    enabled: bool = Field(
        default=False,
        description="True sends a span for each request to Klaviyo; needs the extra "
        "`tracing`, and OpenTelemetry's own variables say where to.",
    )


class Log(Section):
    """What is logged, and how."""

    format: Annotated[Literal["auto", "json", "readable"], BeforeValidator(lower)] = (
        Field(
            default="auto",
            description="Auto is readable on a terminal and json elsewhere.",
        )
    )
    level: Annotated[
        Literal["debug", "info", "warning", "error"], BeforeValidator(lower)
    ] = Field(default="info", description="Least level that is logged.")
