"""Which records of a range are meant, and whom they are about."""

from collections.abc import Collection, Iterable, Mapping
from typing import Final, Protocol, TypeAlias

from pipeline.forward.plan import Planner
from pipeline.kafka.schema_registry import SchemaRegistry
from pipeline.records import Dead, Partition, Record, Skipped
from schemas.commands import CreateEvent, UpsertProfile
from schemas.event import Context, Plan
from schemas.mapping import Mappings

__all__ = [
    "Everything",
    "Later",
    "OfCustomer",
    "OfKey",
    "OfOrder",
    "Origin",
    "Selection",
    "Touched",
    "Unlettered",
    "Watched",
]

Origin: TypeAlias = tuple[str, int, int]  # topic, partition, offset of a record

MANY: Final = 1_000_000  # customers kept apart; beyond them everybody counts as touched


class Selection(Protocol):
    """Says of each record whether it is meant."""

    def wants(self, record: Record) -> bool:
        """Whether to send it."""
        ...


class Everything:
    """All there is."""

    def wants(self, record: Record) -> bool:
        """Always."""
        del record
        return True


class OfKey:
    """The records with one key."""

    def __init__(self, key: str) -> None:
        self._key = key.encode()

    def wants(self, record: Record) -> bool:
        """Whether it has that key."""
        return record.key == self._key


class OfCustomer(OfKey):
    """All about the customer with that id, orders too; tombstones go by their key."""

    def __init__(self, name: str, planner: Planner) -> None:
        super().__init__(name)
        self._name = name
        self._planner = planner

    def wants(self, record: Record) -> bool:
        """Whether what it asks for is about that customer."""
        planned = self._planner.plan(record)
        if not isinstance(planned, Plan) or not planned.commands:
            return super().wants(record)
        return any(each.identity.external_id == self._name for each in planned.commands)


class OfOrder(OfKey):
    """All events of the order with that id."""

    def __init__(self, name: str, planner: Planner) -> None:
        """`planner` makes events, also where klaviyo.generate_events is off."""
        super().__init__(name)
        self._name = name
        self._planner = planner

    def wants(self, record: Record) -> bool:
        """Whether one of its events is of that order."""
        planned = self._planner.plan(record)
        if not isinstance(planned, Plan):
            return super().wants(record)
        return any(
            isinstance(each, CreateEvent)
            and (each.unique_id == self._name or each.unique_id.startswith(self._prefix))
            for each in planned.commands
        )

    @property
    def _prefix(self) -> str:
        return f"{self._name}:"


class Unlettered:
    """All that another selection means, but what would be the dead letter it is already.

    So no record of an old fault trips the brake on new ones.
    """

    def __init__(
        self,
        meant: Selection,
        known: Collection[Origin],
        done: Mapping[Partition, int],
        planner: Planner,
    ) -> None:
        """`known` are dead letters; what stands below `done` ended in an earlier call."""
        self._meant = meant
        self._known = known
        self._done = done
        self._planner = planner
        self.count = 0  # left out

    def wants(self, record: Record) -> bool:
        """Whether it is meant and may yet be delivered."""
        if not self._meant.wants(record):
            return False
        place = (record.topic, record.partition, record.offset)
        if place not in self._known:
            return True
        if not isinstance(self._planner.plan(record), Dead):
            return True
        if record.offset >= self._done.get((record.topic, record.partition), 0):
            self.count += 1
        return False


class Touched:
    """The customers whose records were sent again, and since when.

    Their older data may have overwritten newer; so what came later for them is sent once
    more. Kept as numbers of 8 bytes: names would be their whole addresses.
    """

    def __init__(self) -> None:
        self.since: int | None = None  # ms; Kafka's time of the first record
        self._who: set[int] = set()

    def __bool__(self) -> bool:
        return self.since is not None

    def learn(self, record: Record, planned: Plan | Skipped | Dead) -> None:
        """A record is sent again."""
        if not isinstance(planned, Plan) or not planned.commands:
            return
        since = record.timestamp if self.since is None else self.since
        self.since = min(record.timestamp, since)
        if len(self._who) < MANY:
            for command in planned.commands:
                self._who.update(map(hash, command.identity.names()))

    def knows(self, names: Iterable[str]) -> bool:
        """Whether one of them was touched."""
        return len(self._who) >= MANY or not self._who.isdisjoint(map(hash, names))


class Later(Planner):
    """Plans what came later for touched customers: the state of their profiles alone.

    An event that came later is sent by the service, or was; its flows are not our affair.
    """

    def __init__(
        self,
        context: Context,
        mappings: Mappings,
        registry: SchemaRegistry | None,
        touched: Touched,
        followed: Touched,
    ) -> None:
        """`followed` learns whom it was about, in turn."""
        super().__init__(context, mappings, registry)
        self._touched = touched
        self._followed = followed

    def wants(self, record: Record) -> bool:
        """Whether it updates the profile of a touched customer."""
        planned = self.plan(record)
        return isinstance(planned, Plan) and bool(planned.commands)

    def plan(self, record: Record) -> Plan | Skipped | Dead:
        """Leave the profile updates of touched customers."""
        planned = super().plan(record)
        if not isinstance(planned, Plan):
            return Skipped("unknown_type")
        kept = [
            command
            for command in planned.commands
            if isinstance(command, UpsertProfile)
            and self._touched.knows(command.identity.names())
        ]
        later = Plan([*kept])
        self._followed.learn(record, later)
        return later


class Watched(Planner):
    """Plans as always, and remembers who is touched by it."""

    def __init__(
        self,
        context: Context,
        mappings: Mappings,
        registry: SchemaRegistry | None,
        touched: Touched,
    ) -> None:
        super().__init__(context, mappings, registry)
        self._touched = touched

    def plan(self, record: Record) -> Plan | Skipped | Dead:
        """Plan it."""
        planned = super().plan(record)
        self._touched.learn(record, planned)
        return planned
