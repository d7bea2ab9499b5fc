"""The cluster, what is read from it, and what is written to it."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from pipeline.settings.sections.section import Section
from pipeline.settings.values import Name, Seconds, join, lower, split, topic_name, upper

__all__ = ["Kafka", "SchemaRegistry", "Topics"]


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

    @field_validator("bootstrap_servers")
    @classmethod
    def _addresses(cls, value: str) -> str:
        if "@" in value:  # it is shown, unlike a secret
            raise ValueError(
                "must have no login in it: set kafka.sasl_username and "
                "kafka.sasl_password"
            )
        return value

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
