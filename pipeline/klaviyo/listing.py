"""GET /api/profiles: how a page is asked for, and what one is.

Filters, operators and sorts from Klaviyo's OpenAPI documents 2024-02-15 ... 2026-07-15.
The query is built once and percent-encoded here: a raw `+` would be read as a space.
"""

import re
from collections.abc import Collection
from typing import Final
from urllib.parse import quote, urlsplit

import msgspec

from pipeline.errors import PipelineError

__all__ = ["ANY", "PAGE", "PROOF", "ForeignLink", "Page", "ids", "page", "query", "sized"]

PAGE: Final = 100  # rows; the most a page may have
ANY: Final = 100  # ids in one any(id,[...])
_PATH: Final = "/api/profiles"
_SIZE: Final = re.compile(r"(page(?:\[|%5B)size(?:\]|%5D)=)\d+", re.IGNORECASE)


class ForeignLink(PipelineError):
    """The next page is said to be on another host; the credential does not go there."""


class Page(msgspec.Struct, frozen=True):
    """Rows as they came, and the path of the next page."""

    rows: list[msgspec.Raw]
    following: str | None

    def __repr__(self) -> str:  # rows and cursor are customers'
        return f"Page({len(self.rows)} rows)"


class _Links(msgspec.Struct):
    next: str | None = None


class _Document(msgspec.Struct):
    data: list[msgspec.Raw]
    links: _Links = msgspec.field(default_factory=_Links)


PROOF: Final = msgspec.json.Decoder(_Document)


def query(*conditions: str, sort: str = "", size: int = PAGE) -> str:
    """Return the path of a first page; conditions are joined by "and".

    For example `query("greater-than(updated,2026-01-01T00:00:00Z)", sort="updated")`.
    """
    parts = {
        "additional-fields[profile]": "subscriptions",
        "page[size]": str(size),
        "filter": ",".join(conditions),
        "sort": sort,
    }
    text = "&".join(f"{quote(k)}={quote(v, safe='')}" for k, v in parts.items() if v)
    return f"{_PATH}?{text}"


def sized(path: str, size: int) -> str:
    """Return the same page's path with another number of rows; cursors hold for any."""
    return _SIZE.sub(rf"\g<1>{size}", path)


def ids(wanted: Collection[str]) -> str:
    """Return the condition that asks for these profiles by id, `ANY` at most."""
    return f"any(id,{msgspec.json.encode(list(wanted)).decode()})"


def page(body: bytes, api_url: str) -> Page:
    """Read an answer that `PROOF` has accepted. Raises `ForeignLink`."""
    document: _Document = PROOF.decode(body)
    link = document.links.next
    if link is None:
        return Page(document.data, None)
    parts = urlsplit(link)
    if (parts.scheme, parts.netloc) != urlsplit(api_url)[:2]:
        raise ForeignLink(
            f"Klaviyo's next page of profiles is said to be on {parts.netloc}, but "
            f"klaviyo.api_url is {api_url}: it is not followed. Correct klaviyo.api_url, "
            "or the proxy that rewrites answers."
        )
    return Page(document.data, f"{parts.path}?{parts.query}")
