"""Other people's topics through the real program, by mapping alone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.demo.foreign import MAPPINGS
from pipeline.demo.shop import Made
from tests.flow.rig import Rig
from tests.shops import (
    PLUGIN_ORDER,
    ROW,
    WEB_CANCELLED,
    WEB_ORDER,
    change,
)

CART = Path(__file__).parents[1] / "cart_abandoned.py"


def order(message: dict[str, Any]) -> Made:
    return Made("shop.orders", str(message["id"]).encode(), json.dumps(message).encode())


def customer(message: dict[str, Any]) -> Made:
    return Made("shop.customers", b'{"id":1004}', json.dumps(message).encode())


def config(rig: Rig, folder: Path) -> str:
    """The README's mappings, for this rig's topics."""
    text = MAPPINGS.replace("web.orders", rig.orders)
    file = folder / "pipeline.toml"
    file.write_text(text.replace("crm.public.customers", rig.customers), "utf-8")
    return str(file)


@pytest.mark.timeout(60)
async def test_a_shop_and_a_table_reach_klaviyo(rig: Rig, tmp_path: Path) -> None:
    """A shop's webhooks and a Debezium table, good and bad ones."""
    bad = WEB_ORDER | {"id": 2, "created_at": 5}
    other = WEB_ORDER | {"id": 3, "financial_status": "pending"}
    await rig.send([order(WEB_ORDER), order(WEB_CANCELLED), order(bad), order(other)])
    enveloped = {"schema": {"type": "struct"}, "payload": change("u", ROW, ROW)}
    enveloped["payload"]["after"] = ROW | {"city": "Bonn", "tier": None}
    rows = [
        change("r", None, ROW),
        enveloped,
        change("d", ROW, None),
        {"schema": None, "payload": None},
        change("t", None, None),
    ]
    await rig.send([customer(row) for row in rows])
    async with rig.service(config=config(rig, tmp_path)) as service:
        await rig.drained()
        skipped = {
            reason: await service.metric("skipped_total", {"reason": reason})
            for reason in ("unknown_type", "deletes_ignored", "tombstone")
        }
        letters = await rig.read_dead_letters(1)
        assert await service.terminate() == 0
    assert skipped == {"unknown_type": 2, "deletes_ignored": 1, "tombstone": 1}
    found = {(e["metric"], e["unique_id"]): e["value"] for e in rig.events()}
    assert found == {
        ("Placed Order", "450789469"): 409.94,
        ("Ordered Product", "450789469:466157049"): 199,
        ("Ordered Product", "450789469:518995019"): 199,
        ("Cancelled Order", "450789469"): 409.94,
    }
    assert rig.profile("207119551")["phone_number"] == "+12025550123"
    held = rig.profile("1004")
    assert (held["email"], held["first_name"]) == ("anne@shop.dev", "Anne")
    assert held["location"]["city"] == "Bonn"
    assert held["location"]["country"] == "DE"
    assert held["properties"] == {"born": "1990-01-01T00:00:00Z"}, "null cleared tier"
    (letter,) = letters
    headers = dict(letter.headers() or ())
    assert headers["klaviyo.reason"] == b"mapping_failed"
    assert headers["klaviyo.pointer"] == b"$.occurred_at"
    said = headers["__connect.errors.exception.message"]
    assert isinstance(said, bytes)
    assert b"mapping.orders.fields.occurred_at = created_at" in said
    assert letter.value() == json.dumps(bad).encode()


@pytest.mark.timeout(60)
async def test_guests_of_a_plug_in(rig: Rig, tmp_path: Path) -> None:
    text = MAPPINGS.replace("plugin.orders", rig.orders)
    file = tmp_path / "pipeline.toml"
    file.write_text(text, "utf-8")
    await rig.send([order(PLUGIN_ORDER)])
    async with rig.service(config=str(file)) as service:
        await rig.drained()
        assert await service.metric("dead_letters_total") == 0
    found = {(e["metric"], e["unique_id"]): e["value"] for e in rig.events()}
    assert found == {("Placed Order", "727"): 29.37, ("Ordered Product", "727:315"): 6}


@pytest.mark.timeout(60)
async def test_an_installed_package_brings_an_event_type(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One module and its entry point; the program itself knows nothing of carts.

    Its metric is named where all others are.
    """
    shutil.copy(CART, tmp_path / "our_cart.py")
    package = tmp_path / "our_cart-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: our-cart\nVersion: 1")
    points = "[klaviyo_pipeline.events]\ncart_abandoned = our_cart\n"
    (package / "entry_points.txt").write_text(points)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    cart = {"id": "K-1", "customer": {"id": "C-1"}}
    await rig.send(
        [order({"id": 1, "type": "cart.abandoned", "cart": cart} | {"id": "e"})]
    )
    async with rig.service(events__cart_abandoned="Left Behind") as service:
        await rig.drained()
        assert await service.terminate() == 0
    assert [(e["metric"], e["unique_id"]) for e in rig.events()] == [
        ("Left Behind", "K-1")
    ]
