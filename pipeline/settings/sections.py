"""Every setting, declared once: section, field, type, default and one sentence.

The README's table, the environment names and the suggestions for misspelt names are all
read from here. "Blank" is the empty string, or no value where the setting is a number.
"""

import re
import unicodedata
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    SecretStr,
    create_model,
    field_validator,
    model_validator,
)

from pipeline.settings.values import (
    Bytes,
    Count,
    Name,
    Seconds,
    blank,
    join,
    lower,
    moment,
    not_bool,
    split,
    text,
    topic_name,
    upper,
    words,
)
from schemas.registry import METRICS

__all__ = [
    "DEFAULT_REVISION",
    "Audit",
    "Consent",
    "Deletes",
    "Deliver",
    "Events",
    "Http",
    "Kafka",
    "Klaviyo",
    "Log",
    "Profile",
    "Reverse",
    "SchemaRegistry",
    "Sealing",
    "Section",
    "Subscription",
    "Throttle",
    "Topics",
    "Tracing",
]

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


class Section(BaseModel):
    """One table of the TOML file; unknown fields are refused, values never change."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        str_strip_whitespace=True,
        hide_input_in_errors=True,
    )


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


class Klaviyo(Section):
    """The account and how we speak to it."""

    api_url: str = Field(
        default="https://a.klaviyo.com", description="Base URL of the API."
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
        description="At most so many calls per `throttle.seconds`, over all endpoints; "
        "blank is only Klaviyo's limits.",
    )
    seconds: Annotated[Seconds | None, BeforeValidator(blank)] = Field(
        default=None, description="Seconds that `throttle.limit` counts over."
    )
    limit_reverse: Annotated[Count | None, BeforeValidator(blank)] = Field(
        default=None,
        description="The same for the poller, per `throttle.seconds_reverse`.",
    )
    seconds_reverse: Annotated[Seconds | None, BeforeValidator(blank)] = Field(
        default=None, description="Seconds that `throttle.limit_reverse` counts over."
    )
    concurrent_connections: Count = Field(
        default=10, description="Connections to each of Klaviyo's endpoints."
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


class Kafka(Section):
    """The cluster and what we read from it."""

    bootstrap_servers: Annotated[Name, BeforeValidator(join)] = Field(
        default="localhost:9092",
        description="Brokers to start from, as host:port, comma-separated.",
    )
    security_protocol: Annotated[
        Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], BeforeValidator(upper)
    ] = Field(default="PLAINTEXT", description="How to talk to the brokers.")
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"], BeforeValidator(upper)
    ] = Field(
        default="PLAIN", description="How to log in, with SASL_PLAINTEXT and SASL_SSL."
    )
    sasl_username: str = Field(default="", description="User of the SASL login.")
    sasl_password: SecretStr = Field(
        default=SecretStr(""), description="Password of the SASL login."
    )
    ssl_cafile: str = Field(
        default="", description="File of the authorities to trust; blank is the system's."
    )
    ssl_certfile: str = Field(
        default="", description="File of our own certificate, if any."
    )
    ssl_keyfile: str = Field(default="", description="File of that certificate's key.")
    topics: Annotated[tuple[str, ...], BeforeValidator(split)] = Field(
        default=("shop.customers", "shop.orders"),
        min_length=1,
        description="Topics to read; one that starts with `^` is a regular expression.",
    )
    group: str = Field(
        default="",
        description="Consumer group; blank is `klaviyo-` and the subscription's slug.",
    )
    start: Annotated[Literal["none", "earliest", "latest"], BeforeValidator(lower)] = (
        Field(
            default="none",
            description="Where a group without offsets starts; none refuses and says so.",
        )
    )
    session_timeout: Seconds = Field(
        default=15,
        ge=6,  # s; what brokers accept unless told otherwise: 6 s to 30 min
        le=1800,
        description="Seconds after which a dead replica's partitions move.",
    )

    @field_validator("topics")
    @classmethod
    def _readable(cls, topics: tuple[str, ...]) -> tuple[str, ...]:
        for topic in topics:
            if topic.startswith("^"):
                try:
                    re.compile(topic)
                except re.error as error:
                    raise ValueError(
                        f"has an entry that is no regular expression, at {error.pos}"
                    ) from None
            else:
                topic_name(topic)
        return topics

    @model_validator(mode="after")
    def _complete(self) -> Self:
        sasl = self.security_protocol.startswith("SASL_")
        if sasl and not (self.sasl_username and self.sasl_password.get_secret_value()):
            raise ValueError(
                f"security_protocol {self.security_protocol} needs sasl_username and "
                "sasl_password"
            )
        if self.ssl_keyfile and not self.ssl_certfile:
            raise ValueError("ssl_keyfile needs ssl_certfile")
        return self


class SchemaRegistry(Section):
    """Where the schemas of values in Confluent's wire format are."""

    url: str = Field(
        default="",
        description="Schema Registry for values in Confluent's wire format; needs the "
        "extra `registry`.",
    )

    @field_validator("url")
    @classmethod
    def _plain(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in {"http", "https"} or not parts.hostname):
            raise ValueError("must be a URL that starts with https:// or http://")
        if "@" in parts.netloc:  # it is shown, unlike a secret
            raise ValueError("must have no login in it: set username and password")
        return value

    username: str = Field(default="", description="User of its login, if any.")
    password: SecretStr = Field(
        default=SecretStr(""), description="Password of that login."
    )


class Topics(Section):
    """The topics we write."""

    profiles: str = Field(
        default="klaviyo.profiles",
        description="Topic for profiles that changed in Klaviyo.",
    )
    dead_letters: str = Field(
        default="klaviyo.dead-letters",
        description="Topic for records Klaviyo cannot take.",
    )
    state: str = Field(
        default="klaviyo.state",
        description="Compacted topic for what must outlive the process.",
    )
    create: bool = Field(
        default=True, description="Whether `run` creates the topics it writes."
    )

    _named = field_validator("profiles", "dead_letters", "state")(topic_name)


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
        description="So many malformed records in a row, or half of the last 1,000, "
        "halt the flow.",
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


class Reverse(Section):
    """How changes come back from Klaviyo."""

    enabled: bool = Field(
        default=True, description="Whether profiles changed in Klaviyo are published."
    )
    interval: Seconds = Field(default=10, description="Seconds between two polls.")
    overlap: Annotated[float, BeforeValidator(not_bool)] = Field(
        default=60,
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
