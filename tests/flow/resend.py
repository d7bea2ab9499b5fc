"""What tests of sending again send, and what Klaviyo holds then."""

import json
import os
from typing import Any

from pipeline.demo.shop import Made
from tests.flow.rig import Rig

__all__ = ["RECORDS", "fault", "held", "named", "order"]

RECORDS = int(os.environ.get("REPLAY_RECORDS", "1500"))


def fault(path: str, times: int | None = None, **action: Any) -> dict[str, Any]:
    return {"match": {"path": path, "times": times}, "action": action}


def held(rig: Rig) -> tuple[dict[str, Any], list[str]]:
    """What Klaviyo holds, without the times of its own."""
    profiles = {
        str(profile.identifiers): {
            "fields": profile.fields,
            "location": profile.location,
            "properties": profile.properties,
        }
        for profile in rig.sandbox.state.profiles
    }
    events = sorted(json.dumps(each, sort_keys=True) for each in rig.events())
    return json.loads(json.dumps(profiles)), events


def named(number: int, who: str = "C-1") -> Made:
    value = {
        "type": "customer.updated",
        "customer": {"id": who, "first_name": f"n{number}"},
    }
    return Made("shop.customers", who.encode(), json.dumps(value).encode())


def order(name: str, who: str = "C-1", **more: Any) -> Made:
    content = {"id": name, "customer": {"id": who}}
    value = {"type": "order.placed", "order": content, **more}
    return Made("shop.orders", who.encode(), json.dumps(value).encode())
