"""Every setting, declared once: section, field, type, default and one sentence.

The README's table, the environment names and the suggestions for misspelt names are all
read from here. "Blank" is the empty string, or no value where the setting is a number.

    service.py  subscription, http, secrets, tracing, log
    klaviyo.py  klaviyo, throttle
    kafka.py    kafka, schema_registry, topics
    forward.py  events, profile, consent, deliver, deletes, audit
    reverse.py  reverse
"""

from pipeline.settings.sections.forward import (
    Audit,
    Consent,
    Deletes,
    Deliver,
    Events,
    Profile,
)
from pipeline.settings.sections.kafka import Kafka, SchemaRegistry, Topics
from pipeline.settings.sections.klaviyo import DEFAULT_REVISION, Klaviyo, Throttle
from pipeline.settings.sections.reverse import Reverse
from pipeline.settings.sections.section import Section
from pipeline.settings.sections.service import Http, Log, Sealing, Subscription, Tracing

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
