"""The whole pipeline with its audit: what Klaviyo lost is said, and nothing else."""

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from pipeline.app import App
from pipeline.demo.shop import Made
from pipeline.forward import audit
from pipeline.settings import Settings
from tests.flow.rig import Rig, until

ORDERS = 30
LOST = "O-17"


def records() -> list[Made]:
    found = []
    for number in range(ORDERS):
        who = {"id": f"C-{number}", "email": f"c{number}@shop.dev", "first_name": "Ada"}
        update = {"type": "customer.updated", "customer": who | {"title": None}}
        order = {
            "id": f"O-{number}",
            "currency": "USD",
            "total": "20.20",
            "customer": who,
            "lines": [{"id": "1", "product_id": "P", "quantity": 2, "price": "10.10"}],
        }
        placed = {
            "type": "order.placed",
            "occurred_at": "2026-11-01T10:00:00.5Z",
            "order": order,
        }
        key = who["id"].encode()
        found.append(Made("shop.customers", key, json.dumps(update).encode()))
        found.append(Made("shop.orders", key, json.dumps(placed).encode()))
    return found


def counted(app: App, result: str) -> float:
    name = "klaviyo_pipeline_audits_total"
    return app.metrics.registry.get_sample_value(name, {"result": result}) or 0


@pytest.mark.timeout(60)
@pytest.mark.parametrize("lost", [[], [LOST]])
async def test_exactly_what_was_lost_is_reported(
    rig: Rig, lost: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    short: dict[Any, Any] = {"profile": (0.1, 0.2), "event": (0.1, 0.2)}
    monkeypatch.setattr(audit, "DELAYS", short)
    rig.set(lost_events=lost)
    written = await rig.send(records())
    settings: dict[str, Any] = {
        "subscription": {"name": f"test {rig.number}"},
        "klaviyo": {
            "api_url": rig.sandbox.url,
            "api_key": "pk_test",
            "api_revision": "2026-07-15",
        },
        "kafka": {
            "bootstrap_servers": rig.bootstrap,
            "start": "earliest",
            "topics": [rig.customers, rig.orders],
        },
        "topics": {"dead_letters": rig.dead_letters, "create": False},
        "audit": {"sample": 1},
        "reverse": {"enabled": False},
        "http": {"host": "127.0.0.1", "port": 0},
    }
    events = 2 * ORDERS  # each order is an event, and so is its line
    with capture_logs() as lines:
        app = App(Settings(**settings))
        stop = asyncio.Event()
        running = asyncio.create_task(app.run(stop))
        await until(
            lambda: (
                counted(app, "held") + counted(app, "mismatch") >= events
                and sum(counted(app, r) for r in ("held", "mismatch", "overtaken"))
                >= events + ORDERS
            ),
            what="every item was audited",
        )
        stop.set()
        await running
    assert written == 2 * ORDERS
    assert counted(app, "mismatch") == len(lost)
    said = [line for line in lines if line["log_level"] not in ("info", "debug")]
    assert [(line["topic"], line["fields"]) for line in said] == [
        (rig.orders, ["event"]) for _ in lost
    ]
