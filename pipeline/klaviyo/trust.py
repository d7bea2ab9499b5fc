"""Whom we take for Klaviyo: who can prove it to the system's authorities, or to yours."""

import ssl
from typing import Literal, TypeAlias

from pipeline.errors import SettingsError

__all__ = ["SYSTEM", "Trust", "trust"]

# What aiohttp takes as `ssl`; it is never False, which would trust anybody.
Trust: TypeAlias = ssl.SSLContext | Literal[True]
SYSTEM: Literal[True] = True


def trust(cafile: str) -> Trust:
    """Trust the authorities in that PEM file alone; blank is the system's.

    For a proxy of the house that opens TLS. Raises `SettingsError`.
    """
    if not cafile:
        return SYSTEM
    try:
        return ssl.create_default_context(cafile=cafile)
    except OSError as error:  # ssl.SSLError is one
        raise SettingsError(
            f"klaviyo.ssl_cafile {cafile} cannot be used: {error.strerror or error}. "
            "Give a file in PEM format that may be read, with the authorities to trust."
        ) from None
