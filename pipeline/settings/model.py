"""All sections together, and what follows from them."""

from pathlib import Path
from typing import Final, NamedTuple

from pydantic import (
    ByteSize,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationInfo,
    field_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from pipeline.clock import SYSTEM, Clock
from pipeline.errors import SettingsError
from pipeline.settings.secrets import Secrets
from pipeline.settings.sections.forward import (
    Audit,
    Consent,
    Deletes,
    Deliver,
    Events,
    Profile,
)
from pipeline.settings.sections.kafka import Kafka, SchemaRegistry, Topics
from pipeline.settings.sections.klaviyo import Klaviyo, Throttle
from pipeline.settings.sections.reverse import Reverse
from pipeline.settings.sections.section import Section
from pipeline.settings.sections.service import Http, Log, Sealing, Subscription, Tracing
from schemas.mapping import NO_MAPPINGS, Mappings

__all__ = ["PREFIX", "Described", "Settings", "describe", "sections"]

PREFIX: Final = "PIPELINE_"
NEW_KEY: Final = (
    "Make a key with `python -c 'from cryptography.fernet import Fernet; "
    "print(Fernet.generate_key().decode())'`, and keep it."
)


class Settings(BaseSettings):
    """Everything that can be set, checked. Made by `load`, or by hand in a test.

    Made by hand it reads neither file nor environment.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        validate_default=True,
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,  # mappings are checked where they are compiled
    )

    subscription: Subscription = Subscription()
    klaviyo: Klaviyo = Klaviyo()
    throttle: Throttle = Throttle()
    kafka: Kafka = Kafka()
    schema_registry: SchemaRegistry = SchemaRegistry()
    topics: Topics = Topics()
    events: Events = Events()
    profile: Profile = Profile()
    consent: Consent = Consent()
    deliver: Deliver = Deliver()
    deletes: Deletes = Deletes()
    audit: Audit = Audit()
    reverse: Reverse = Reverse()
    http: Http = Http()
    secrets: Sealing = Sealing()
    log: Log = Log()
    tracing: Tracing = Tracing()
    mapping: Mappings = Field(default=NO_MAPPINGS, exclude=True)  # code, no value

    # Of klaviyo: where a field's secret may change, and who looks whether it does.
    _files: dict[str, Path] = PrivateAttr(default_factory=dict)
    _watched: dict[tuple[str, Clock], Secrets] = PrivateAttr(default_factory=dict)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Nothing is read behind the caller's back; `load` brings its own sources."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    @field_validator("kafka")
    @classmethod
    def _grouped(cls, kafka: Kafka, info: ValidationInfo) -> Kafka:
        subscription = info.data.get("subscription")
        if kafka.group or not isinstance(subscription, Subscription):
            return kafka
        return kafka.model_copy(update={"group": f"klaviyo-{subscription.slug}"})

    @field_validator("topics")
    @classmethod
    def _no_circle(cls, topics: Topics, info: ValidationInfo) -> Topics:
        kafka = info.data.get("kafka")
        if not isinstance(kafka, Kafka):
            return topics
        if topics.dead_letters in kafka.topics:
            raise ValueError(
                "dead_letters is one of kafka.topics; a dead letter would be read again"
            )
        if topics.state in {topics.dead_letters, topics.profiles, *kafka.topics}:
            raise ValueError("state needs a topic of its own")
        if topics.profiles == topics.dead_letters:
            raise ValueError(
                "profiles and dead_letters are the same topic; whoever reads one would "
                "meet the other's messages: give each a topic of its own"
            )
        return topics

    @field_validator("secrets")
    @classmethod
    def _sealing(cls, secrets: Sealing, info: ValidationInfo) -> Sealing:
        deletes = info.data.get("deletes")
        if (
            isinstance(deletes, Deletes)
            and deletes.policy == "erase"
            and not secrets.key.get_secret_value().strip()
        ):
            raise ValueError(
                "secrets.key is blank, but deletes.policy is erase, whose list of the "
                f"erased it seals. {NEW_KEY}"
            )
        return secrets

    @property
    def slug(self) -> str:
        """The subscription's name as Kafka group and state keys carry it."""
        return self.subscription.slug

    @property
    def uses_oauth(self) -> bool:
        """Whether an OAuth app, not a private key, is what we log in with."""
        return bool(self.klaviyo.client_id)

    def require_credential(self) -> None:
        """Check that there is one way to log in to Klaviyo.

        Raises `SettingsError` when there is none, or two. Only commands that talk to
        Klaviyo call it, so that the others work without a key.
        """
        if self.uses_oauth:
            if self.klaviyo.api_key.get_secret_value():
                raise SettingsError(
                    "klaviyo.api_key and klaviyo.client_id are both set, so there are "
                    "two ways to log in to Klaviyo. Leave the one blank that is not "
                    "meant: both at once would use two quotas and make metrics twice."
                )
            self.require_oauth()
        elif not self.klaviyo.api_key.get_secret_value():
            raise SettingsError(
                "klaviyo.api_key is blank, so there is nothing to log in to Klaviyo "
                "with. Create a private key in Klaviyo (Settings, API keys) and give it "
                f"as {PREFIX}KLAVIYO__API_KEY, in the environment or as a file of that "
                f"name in {PREFIX}SECRETS_DIR. Or use OAuth: klaviyo.client_id."
            )

    def require_oauth(self) -> None:
        """Check that all that OAuth needs is set. Raises `SettingsError`."""
        needed = {
            "klaviyo.client_id": self.klaviyo.client_id,
            "klaviyo.client_secret": self.klaviyo.client_secret.get_secret_value(),
            "secrets.key": self.secrets.key.get_secret_value(),
        }
        blank = [name for name, value in needed.items() if not value]
        if blank:
            key = ""
            if "secrets.key" in blank:
                key = f" {NEW_KEY}"
            raise SettingsError(
                f"OAuth needs {', '.join(needed)}; blank: {', '.join(blank)}. Take id "
                f"and secret from the app at Klaviyo.{key}"
            )

    def api_key(self, clock: Clock = SYSTEM) -> Secrets:
        """Watch the key as it changes while we run."""
        return self._watch("api_key", self.klaviyo.api_key, clock)

    def client_secret(self, clock: Clock = SYSTEM) -> Secrets:
        """Watch the secret of the OAuth app as it changes while we run."""
        return self._watch("client_secret", self.klaviyo.client_secret, clock)

    def _watch(self, field: str, value: SecretStr, clock: Clock) -> Secrets:
        found = self._watched.get((field, clock))
        if found is None:
            found = Secrets(self._files.get(field), value.get_secret_value(), clock)
            self._watched[field, clock] = found
        return found

    def secret_values(self) -> tuple[str, ...]:
        """Every secret there is, for the log to mask; those that came later too."""
        for watched in self._watched.values():
            watched.current()
        later = set[str]().union(*(each.given for each in self._watched.values()))
        return (*filter(None, later), *self._given())

    def _given(self) -> tuple[str, ...]:
        return tuple(
            part
            for section in sections()
            for value in vars(getattr(self, section)).values()
            if isinstance(value, SecretStr)
            for part in (value.get_secret_value(), *_keys(value.get_secret_value()))
            if part
        )


def _keys(secret: str) -> list[str]:
    """Take a list of keys apart, each of which must be hidden."""
    return [part.strip() for part in secret.split(",")] if "," in secret else []


class Described(NamedTuple):
    """One setting, as the README shows it."""

    name: str  # section.field
    default: str
    meaning: str
    secret: bool

    @property
    def variable(self) -> str:
        """Its name in the environment and in the secrets folder."""
        return PREFIX + self.name.upper().replace(".", "__")


def sections() -> dict[str, type[Section]]:
    """Section name -> its declaration."""
    return {
        name: field.annotation
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }


def describe() -> list[Described]:
    """Every setting in the order of the declarations."""
    return [
        Described(
            name=f"{section}.{name}",
            default=_shown(field.default),
            meaning=field.description or "",
            secret=isinstance(field.default, SecretStr),
        )
        for section, model in sections().items()
        for name, field in model.model_fields.items()
    ]


def _shown(default: object) -> str:
    match default:
        case None | "" | SecretStr():
            return "blank"
        case bool():
            return str(default).lower()
        case ByteSize():
            return default.human_readable(separator=" ").replace(".0 ", " ")
        case tuple():
            return ", ".join(default) or "blank"
        case _:
            return str(default)
