"""Mappings in short, and what they make of a message."""

import json
from typing import Any

from schemas.envelope import decode
from tests.shops import (
    mappings,
)

__all__ = ["customers", "orders", "outcome"]


def outcome(
    toml: str, message: object, *headers: tuple[str, bytes | None], topic: str = "t"
) -> Any:
    return decode(json.dumps(message).encode(), headers, None, mappings(toml).of(topic))


def customers(fields: str, rest: str = "") -> str:
    return (
        f'[mapping.m]\nfrom_topic = "t"\nto = "customer.updated"\n{rest}\n'
        f"[mapping.m.fields]\n{fields}\n"
    )


def orders(fields: str) -> str:
    return (
        '[mapping.m]\nfrom_topic = "t"\nto = "order.placed"\n[mapping.m.fields]\n'
        f"order.id = 'text(id)'\norder.customer.id = '`\"C\"`'\n{fields}\n"
    )
