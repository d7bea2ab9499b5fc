"""Says how to get the parts that a production image leaves out."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pipeline.errors import PipelineError

__all__ = ["needs_demo"]

_OURS: Final = ("pipeline", "schemas")


@contextmanager
def needs_demo(command: str) -> Iterator[None]:
    """Turn a missing package, in the block, into an error that says what to do."""
    try:
        yield
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing.partition(".")[0] in _OURS:
            raise  # a fault of ours, not of the installation
        raise PipelineError(
            f"`{command}` needs the package {missing}, which is not installed. "
            "Install the demo extra: pip install 'klaviyo-pipeline[demo]'."
        ) from None
