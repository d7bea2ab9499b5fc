"""The topics that replays write to."""

from pipeline.kafka.admin import Admin
from pipeline.settings import Settings

__all__ = ["create_topics"]


async def create_topics(settings: Settings) -> None:
    """Create those that are missing, where `topics.create` allows it.

    Raises what `Admin.create_missing` raises.
    """
    if settings.topics.create:
        admin = Admin(settings.kafka)
        await admin.create_missing(settings.topics.dead_letters)
        await admin.create_missing(settings.topics.state, compact=True)
