"""What can be set, from where, and what is wrong with it.

sections/   every setting, declared once
model.py     all sections together: `Settings`, and `describe()` for the README
sources.py   environment, secrets folder, TOML file
load.py      reads and checks them: `load(config, environ)`
secrets.py   the secrets that may change while we run
"""

from pipeline.settings.load import load
from pipeline.settings.model import Described, Settings, describe
from pipeline.settings.secrets import Secrets
from pipeline.settings.sections.forward import (
    Consent,
    Deletes,
    Deliver,
    Events,
    Profile,
)
from pipeline.settings.sections.kafka import Kafka, SchemaRegistry, Topics
from pipeline.settings.sections.klaviyo import Klaviyo, Throttle
from pipeline.settings.sections.reverse import Reverse
from pipeline.settings.sections.service import Http, Log, Sealing, Subscription

__all__ = [
    "Consent",
    "Deletes",
    "Deliver",
    "Described",
    "Events",
    "Http",
    "Kafka",
    "Klaviyo",
    "Log",
    "Profile",
    "Reverse",
    "SchemaRegistry",
    "Sealing",
    "Secrets",
    "Settings",
    "Subscription",
    "Throttle",
    "Topics",
    "describe",
    "load",
]
