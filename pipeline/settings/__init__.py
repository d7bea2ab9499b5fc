"""What can be set, from where, and what is wrong with it.

sections/   every setting, declared once
model.py     all sections together: `Settings`, and `describe()` for the README
sources.py   environment, secrets folder, TOML file
load.py      reads and checks them: `load(config, environ)`
secrets.py   the Klaviyo key as it changes while we run
"""

from pipeline.settings.load import load
from pipeline.settings.model import Described, Settings, describe
from pipeline.settings.secrets import Secrets
from pipeline.settings.sections import (
    Consent,
    Deletes,
    Deliver,
    Events,
    Http,
    Kafka,
    Klaviyo,
    Log,
    Profile,
    Reverse,
    SchemaRegistry,
    Sealing,
    Subscription,
    Throttle,
    Topics,
)

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
