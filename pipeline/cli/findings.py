"""What `check` finds: rows for a table, and the exit code they add up to."""

from typing import Final, Literal, NamedTuple, Self, TypeAlias

from pipeline.errors import PipelineError

__all__ = ["FAILED", "REFUSED", "Finding", "exit_code"]

Grade: TypeAlias = Literal["ok", "note", "FAULT"]

FAILED: Final = 1
REFUSED: Final = 3  # the credential
_WORST_FIRST: Final = (REFUSED, 4, 2, FAILED)  # 4 Kafka unreachable, 2 settings


class Finding(NamedTuple):
    """One row: how it is, what was looked at, what was found, what to do."""

    grade: Grade
    what: str
    found: str
    do: str = ""
    code: int = 0  # exit code of a fault

    @classmethod
    def fault(cls, what: str, error: PipelineError) -> Self:
        """Of an error: its first sentence says what is wrong, the others what to do."""
        found, _, do = str(error).partition(". ")
        return cls("FAULT", what, found, do, error.exit_code)


def exit_code(findings: list[Finding]) -> int:
    """Return the code of the worst fault, 0 without any."""
    codes = {finding.code for finding in findings if finding.grade == "FAULT"}
    return next((code for code in _WORST_FIRST if code in codes), 0)
