"""The dead letter that a refusal makes."""

from pipeline.klaviyo.call import Refused
from pipeline.klaviyo.retry import Fault
from pipeline.records import Dead

__all__ = ["dead"]


def dead(answer: Refused, fault: Fault | None = None) -> Dead:
    """Name `fault`, or else the first that Klaviyo named."""
    if fault is None and answer.faults:
        fault = answer.faults[0]
    return Dead(
        reason="refused",
        stage="deliver",
        message=fault.safe if fault else f"Klaviyo answered {answer.status}",
        pointer=fault.pointer if fault else "",
        status=answer.status,
        code=fault.code if fault else "",
        attempts=answer.attempts,
    )
