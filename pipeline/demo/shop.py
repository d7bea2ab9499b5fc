"""A small shop that makes changes, and remembers what Klaviyo must hold because of them.

The expectations are written down here, by the shop, in Klaviyo's words, not computed with
the code under proof. Some records are bad on purpose; the shop says how each must end.
"""

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

__all__ = ["CUSTOMERS", "ORDERS", "Made", "Shop"]

CUSTOMERS: Final = "shop.customers"
ORDERS: Final = "shop.orders"
_FIRST = ("Ada", "Grace", "Alan", "Edsger", "Barbara", "Donald", "Radia", "Ken")
_LAST = ("Lovelace", "Hopper", "Turing", "Dijkstra", "Liskov", "Knuth", "Perlman")
_GOODS = (("P1", "Mug", "9.90"), ("P2", "Lamp", "0.10"), ("P3", "Chair", "149.00"))
_BAD_EVERY: Final = 10  # customers
_CHANGES_AFTER_ORDER: Final = 0.4  # part of the orders after which the profile changes
_TIERS = ("bronze", "silver", "gold")


@dataclass(frozen=True)
class Made:
    """One record for Kafka."""

    topic: str
    key: bytes
    value: bytes | None


@dataclass
class Shop:
    """Changes to send, and what must be true when all of them have ended."""

    seed: int = 1
    bad: bool = True
    """Whether some records are bad on purpose."""
    profiles: dict[str, dict[str, Any]] = field(default_factory=dict)
    """external_id, else e-mail -> attributes that Klaviyo must hold"""
    events: dict[tuple[str, str], tuple[str, float]] = field(default_factory=dict)
    """(metric, unique_id) -> (external_id or e-mail of its profile, value)"""
    dead: dict[bytes, str] = field(default_factory=dict)
    """key of a record that must become a dead letter -> reason"""
    skipped: Counter[str] = field(default_factory=Counter)
    """reason -> records that must be skipped for it"""
    made: int = 0
    resent: int = 0
    """Events that the shop itself sends a second time"""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311  a demo, not a secret
        self._now = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
        self._orders = 0

    def day(self, customers: int, orders: int, at_least: int = 0) -> Iterator[Made]:
        """All changes of one day, in the order in which they happen.

        Goes on with orders until `at_least` records are made.
        """
        for number in range(customers):
            yield self._customer(number)
            if self.bad and number % _BAD_EVERY == 0:
                yield from self._bad(number)
        while self._orders < orders or self.made < at_least:
            who = f"C-{self._random.randrange(customers)}"
            yield from self._order(who)
            if self._random.random() < _CHANGES_AFTER_ORDER:
                yield self._update(who)

    # -- customers ---------------------------------------------------------------------

    def _customer(self, number: int) -> Made:
        who = f"C-{number}"
        first, last = self._random.choice(_FIRST), self._random.choice(_LAST)
        email = f"{first}.{last}.{number}@shop.dev".lower()
        customer: dict[str, Any] = {
            "id": who,
            "email": email,
            "first_name": first,
            "last_name": last,
            "custom_fields": {"tier": "bronze", "visits": number},
        }
        self.profiles[who] = {
            "email": email,
            "first_name": first,
            "last_name": last,
            "phone_number": None,
            "properties": {"tier": "bronze", "visits": number},
        }
        if number % 3 == 0:
            customer["phone"] = f"(202) 555-{1000 + number}"
            customer["address"] = {"city": "Washington", "country": "US"}
            self.profiles[who]["phone_number"] = f"+1202555{1000 + number}"
        elif number % 7 == 1:
            customer["phone"] = "call me maybe"  # left out; the rest is delivered
        return self._record(CUSTOMERS, who, "customer.created", customer=customer)

    def _update(self, who: str) -> Made:
        tier = self._random.choice(_TIERS)
        self.profiles[who]["properties"]["tier"] = tier
        title = self._random.choice(("Dr", "Prof", None))
        self.profiles[who]["title"] = title
        customer = {"id": who, "title": title, "custom_fields": {"tier": tier}}
        return self._record(CUSTOMERS, who, "customer.updated", customer=customer)

    # -- orders ------------------------------------------------------------------------

    def _order(self, who: str) -> Iterator[Made]:
        self._orders += 1
        order_id = f"O-{self._orders}"
        lines, total = [], Decimal(0)
        for number in range(1, self._random.randint(2, 4)):
            product, name, price = self._random.choice(_GOODS)
            quantity = self._random.randint(1, 3)
            line_total = Decimal(price) * quantity
            total += line_total
            lines.append(
                {
                    "id": str(number),
                    "product_id": product,
                    "sku": f"S-{product}",
                    "name": name,
                    "quantity": quantity,
                    "price": price,
                    "total": str(line_total),
                }
            )
            key = ("Ordered Product", f"{order_id}:{number}")
            self.events[key] = (who, float(line_total))
        order = {
            "id": order_id,
            "number": str(1000 + self._orders),
            "currency": "USD",
            "total": str(total),
            "customer": {"id": who, "email": self.profiles[who]["email"]},
            "lines": lines,
        }
        self.events["Placed Order", order_id] = (who, float(total))
        yield self._record(ORDERS, who, "order.placed", order=order)
        match self._orders % 5:
            case 0:
                self.events["Cancelled Order", order_id] = (who, float(total))
                yield self._record(
                    ORDERS, who, "order.cancelled", order=order, reason="late"
                )
            case 1:
                for part in ("R1", "R2"):  # two partial refunds: both must be kept
                    amount = Decimal(part[1]) / 10
                    named = [{"id": lines[0]["id"], "quantity": 0.5}]
                    refund = {"id": part, "amount": str(amount), "lines": named}
                    key = ("Refunded Order", f"{order_id}:{part}")
                    self.events[key] = (who, float(amount))
                    yield self._record(
                        ORDERS, who, "order.refunded", order=order, refund=refund
                    )
            case 2:
                # An upstream that sends twice: one event all the same.
                self.resent += 1 + len(lines)
                yield self._record(ORDERS, who, "order.placed", order=order)
            case _:
                self.events["Fulfilled Order", order_id] = (who, float(total))
                yield self._record(ORDERS, who, "order.fulfilled", order=order)

    # -- bad on purpose ----------------------------------------------------------------

    def _bad(self, number: int) -> Iterator[Made]:
        def key(kind: str) -> str:
            return f"bad-{kind}-{number}"

        yield self._dead(key("json"), b'{"type": "customer.updated", ', "malformed")
        wrong = {"id": key("type"), "email": 5}
        record = self._record(CUSTOMERS, key("type"), "customer.updated", customer=wrong)
        self.dead[record.key] = "schema"
        yield record
        record = self._record(
            CUSTOMERS, key("nobody"), "customer.created", customer={"first_name": "X"}
        )
        self.dead[record.key] = "no_identifier"
        yield record
        self.skipped["unknown_type"] += 1
        self.skipped["tombstone"] += 1
        yield self._record(CUSTOMERS, key("unknown"), "customer.sneezed", customer={})
        self.made += 1
        yield Made(CUSTOMERS, key("tombstone").encode(), None)

    def _dead(self, key: str, value: bytes, reason: str) -> Made:
        self.made += 1
        self.dead[key.encode()] = reason
        return Made(CUSTOMERS, key.encode(), value)

    def _record(self, topic: str, key: str, kind: str, **body: object) -> Made:
        self.made += 1
        self._now += timedelta(seconds=1)
        message = {
            "type": kind,
            "id": f"evt-{self.made}",
            "occurred_at": self._now.isoformat().replace("+00:00", "Z"),
            **body,
        }
        return Made(topic, key.encode(), json.dumps(message).encode())
