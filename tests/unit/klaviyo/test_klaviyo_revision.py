"""The revision asked for, the one served, and the end of its life."""

import pytest
from structlog.testing import capture_logs

from pipeline.klaviyo.revision import Revision
from pipeline.observe.metrics import Metrics


class On:
    """A clock that stands on a day."""

    def __init__(self, unix: float) -> None:
        self._unix = unix

    def monotonic(self) -> float:
        return 0.0

    def now(self) -> float:
        return self._unix


NOV_2026 = On(1_795_392_000.0)  # 2026-11-23


def revision(
    asked: str = "2023-10-15", *, strict: bool = False
) -> tuple[Revision, Metrics]:
    metrics = Metrics()
    return Revision(asked, strict=strict, metrics=metrics, clock=NOV_2026), metrics


@pytest.mark.parametrize(
    ("asked", "strict", "served"),
    [
        ("2023-10-15", False, "2025-01-15"),  # the oldest that is not retired on that day
        ("2024-10-15", False, "2025-01-15"),
        ("2025-01-15", False, "2025-01-15"),
        ("2026-07-15", False, "2026-07-15"),
        ("2023-10-15", True, "2023-10-15"),
        ("2027-01-15", False, "2027-01-15"),
        ("2026-04-15.pre", False, "2026-04-15.pre"),
    ],
)
def test_before_the_first_answer_the_policy_says_what_is_served(
    asked: str,
    strict: bool,
    served: str,
) -> None:
    one, _ = revision(asked, strict=strict)
    assert one.served == served
    assert not one.known


@pytest.mark.parametrize(
    ("each", "stage", "retires"),
    [
        ("2023-10-15", "retired", "2025-10-15"),
        ("2024-11-23", "retired", "2026-11-23"),
        ("2024-11-24", "deprecated", "2026-11-24"),
        ("2025-10-15", "deprecated", "2027-10-15"),
        ("2026-01-15", "stable", "2028-01-15"),
        ("2026-07-15", "stable", "2028-07-15"),
    ],
)
def test_a_life_of_two_years(each: str, stage: str, retires: str) -> None:
    one, _ = revision()
    assert (one.stage(each), one.retires(each)) == (stage, retires)


def info(metrics: Metrics, label: str) -> float | None:
    return metrics.registry.get_sample_value(
        "klaviyo_pipeline_served_revision_info", {"revision": label}
    )


def test_another_one_served_is_said_once() -> None:
    one, metrics = revision()
    with capture_logs() as logs:
        for _ in range(3):
            one.observe("2025-01-15")
    assert [log["log_level"] for log in logs] == ["warning"]
    assert (one.served, one.known) == ("2025-01-15", True)
    assert info(metrics, "2025-01-15") == 1


def test_a_change_is_said_and_the_old_label_goes() -> None:
    one, metrics = revision()
    with capture_logs() as logs:
        for each in ("2025-01-15", "2025-04-15", "2025-01-15", "2025-04-15"):
            one.observe(each)
    assert len(logs) == 2  # two servers that disagree do not fill the log
    assert one.served == "2025-04-15"
    assert info(metrics, "2025-01-15") is None
    assert info(metrics, "2025-04-15") == 1


def test_the_one_asked_for_is_no_news() -> None:
    one, metrics = revision("2026-07-15")
    with capture_logs() as logs:
        one.observe("2026-07-15")
    assert logs == []
    assert info(metrics, "2026-07-15") == 1


@pytest.mark.parametrize("header", [None, "", "latest", "2026-07-15; drop", "x" * 5000])
def test_what_is_no_revision_is_left_alone(header: str | None) -> None:
    one, metrics = revision("2026-07-15")
    one.observe(header)
    assert (one.served, one.known) == ("2026-07-15", False)
    assert info(metrics, str(header)) is None


@pytest.mark.parametrize(
    ("asked", "milestone"),
    [
        ("2025-12-15", 0),
        ("2025-11-23", 12),
        ("2025-05-24", 12),
        ("2025-05-23", 18),
        ("2024-12-24", 18),
        ("2024-12-23", 23),
    ],
)
def test_twelve_eighteen_and_twentythree_months_are_spoken_of_once(
    asked: str, milestone: int
) -> None:
    with capture_logs() as lines:
        one, metrics = revision(asked)
        for _ in range(3):
            one.observe(asked)
    assert one.milestone(asked) == milestone
    said = [line["months_old"] for line in lines if "months_old" in line]
    assert said == ([milestone] if milestone else [])
    name = "klaviyo_pipeline_revision_retires_timestamp_seconds"
    assert (metrics.registry.get_sample_value(name) or 0) > 1_795_000_000


def test_a_service_that_runs_for_years_speaks_up_at_each_milestone() -> None:
    clock, month = On(NOV_2026.now()), 86_400 * 30.44
    one = Revision("2026-11-15", strict=False, metrics=Metrics(), clock=clock)
    with capture_logs() as lines:
        for _ in range(30):
            one.observe("2026-11-15")
            clock._unix += month
    said = [line["months_old"] for line in lines if "months_old" in line]
    assert said == [12, 18, 23]
