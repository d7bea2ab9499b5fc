"""The account, the way there, and how much of it may be used."""

import re
from datetime import date
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from pipeline.settings.sections.section import Section
from pipeline.settings.values import Count, Seconds, blank, not_bool, text, words

__all__ = ["DEFAULT_REVISION", "Klaviyo", "Throttle"]

DEFAULT_REVISION: Final = "2023-10-15"  # what a blank klaviyo.api_revision stands for
DEFAULT_REDIRECT: Final = "http://localhost:8080/connect/callback"
DEFAULT_SCOPES: Final = (
    "accounts:read",
    "profiles:read",
    "profiles:write",
    "events:read",
    "events:write",
    "metrics:read",
    "lists:read",
    "lists:write",
    "subscriptions:read",
    "subscriptions:write",
)
_REVISION: Final = re.compile(r"(\d{4}-\d{2}-\d{2})(\.pre)?")


class Klaviyo(Section):
    """The account and how we speak to it."""

    api_url: str = Field(
        default="https://a.klaviyo.com",
        description="Base URL of the API, without `/api`.",
    )
    ssl_cafile: str = Field(
        default="",
        description="File of the authorities to trust for api_url; blank is the "
        "system's.",
    )
    api_key: SecretStr = Field(
        default=SecretStr(""), description="Private key `pk_...` of the account."
    )
    api_revision: Annotated[str, BeforeValidator(text)] = Field(
        default="",
        description=f"API revision to ask for; blank is `{DEFAULT_REVISION}`.",
    )
    strict_revision: bool = Field(
        default=False,
        description="True refuses to be served a newer revision than asked for: "
        "a retired one then halts.",
    )
    generate_events: bool = Field(
        default=True,
        description="False sends profiles only; order records are skipped.",
    )

    client_id: str = Field(
        default="", description="Id of the OAuth app; with it, api_key stays blank."
    )
    client_secret: SecretStr = Field(
        default=SecretStr(""), description="Secret of the OAuth app."
    )
    redirect_url: str = Field(
        default="",
        description="Where Klaviyo sends the user back to, as registered in the app; "
        f"blank is `{DEFAULT_REDIRECT}`.",
    )
    scopes: Annotated[tuple[str, ...], BeforeValidator(words)] = Field(
        default=(),
        description="Scopes to ask the user for; blank is what the pipeline uses.",
    )

    @field_validator("redirect_url")
    @classmethod
    def _returning(cls, value: str) -> str:
        parts = urlsplit(value or DEFAULT_REDIRECT)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.fragment:
            raise ValueError("must be a URL as it is registered in the OAuth app")
        if "@" in parts.netloc:  # it is shown, unlike a secret
            raise ValueError("must have no login in it")
        if parts.path in {"", "/", "/connect", "/livez", "/readyz", "/metrics"}:
            raise ValueError(
                "must have a path of its own, such as that of " + DEFAULT_REDIRECT
            )
        return value or DEFAULT_REDIRECT

    @field_validator("scopes")
    @classmethod
    def _asking(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        scopes = value or DEFAULT_SCOPES
        if not all(re.fullmatch(r"[a-z-]+:(read|write)", scope) for scope in scopes):
            raise ValueError("must be Klaviyo's names of scopes, such as profiles:write")
        if "accounts:read" not in scopes:
            raise ValueError("must have accounts:read, which every OAuth app needs")
        return scopes

    @field_validator("api_url")
    @classmethod
    def _base(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be a URL that starts with https:// or http://")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError(
                "must be a plain base URL, without credentials, query or fragment"
            )
        if parts.path.rstrip("/").endswith("/api"):
            raise ValueError("must end before /api, which each call puts behind it")
        return value.rstrip("/")

    @field_validator("api_key", "client_secret")
    @classmethod
    def _header_safe(cls, value: SecretStr) -> SecretStr:
        key = value.get_secret_value().strip()
        if not re.fullmatch(r"[!-~]*", key):
            raise ValueError(
                "must be one word of plain characters; was more than the key copied?"
            )
        return SecretStr(key)

    @field_validator("api_revision")
    @classmethod
    def _dated(cls, value: str) -> str:
        if not value:
            return DEFAULT_REVISION
        match = _REVISION.fullmatch(value)
        try:
            date.fromisoformat(match[1] if match else "")
        except ValueError:
            raise ValueError(
                "must be a date as 2026-07-15, or one with .pre behind it"
            ) from None
        return value


class Throttle(Section):
    """Ceilings of our own, under Klaviyo's."""

    limit: Annotated[Count | None, BeforeValidator(blank)] = Field(
        default=None,
        description="At most so many calls per `throttle.seconds`, over all endpoints "
        "and all replicas, each of which may make one; blank is only Klaviyo's limits.",
    )
    seconds: Annotated[Seconds | None, BeforeValidator(blank)] = Field(
        default=None,
        description="Seconds that `throttle.limit` counts over; of more than 60 one may "
        "hold more calls where replicas come or go, since parts move after a minute.",
    )
    limit_reverse: Annotated[Count | None, BeforeValidator(blank)] = Field(
        default=None,
        description="The same for the poller, per `throttle.seconds_reverse`.",
    )
    seconds_reverse: Annotated[Seconds | None, BeforeValidator(blank)] = Field(
        default=None, description="Seconds that `throttle.limit_reverse` counts over."
    )
    concurrent_connections: Count = Field(
        default=10, description="Connections to Klaviyo."
    )
    quota_share: Annotated[float, BeforeValidator(not_bool)] = Field(
        default=1.0,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Part of the account's quota this deployment may use.",
    )

    @model_validator(mode="after")
    def _paired(self) -> Self:
        if (self.limit is None) != (self.seconds is None):
            raise ValueError(
                "limit and seconds go together: set both, or leave both blank"
            )
        if (self.limit_reverse is None) != (self.seconds_reverse is None):
            raise ValueError(
                "limit_reverse and seconds_reverse go together: set both, or leave both "
                "blank"
            )
        return self
