"""How profiles are listed: the query, the page, and links that are not followed."""

import pytest

from pipeline.klaviyo import listing

HERE = "https://a.klaviyo.com"


def test_the_query_is_encoded_whole() -> None:
    path = listing.query("greater-than(updated,2026-01-01T00:00:00Z)", sort="updated")
    assert path == (
        "/api/profiles?additional-fields%5Bprofile%5D=subscriptions&page%5Bsize%5D=100"
        "&filter=greater-than%28updated%2C2026-01-01T00%3A00%3A00Z%29&sort=updated"
    )


def test_the_next_link_is_followed_as_it_is() -> None:
    body = b'{"data": [{"a":1}], "links": {"next": "%s/api/profiles?page=x%%2B1"}}'
    page = listing.page(body % HERE.encode(), HERE)
    assert page.following == "/api/profiles?page=x%2B1"
    assert [bytes(row) for row in page.rows] == [b'{"a":1}']


@pytest.mark.parametrize(
    "link", ["https://evil.test/api/profiles?x", "http://a.klaviyo.com/api/profiles"]
)
def test_a_link_to_another_host_is_refused(link: str) -> None:
    body = b'{"data": [], "links": {"next": "%s"}}' % link.encode()
    with pytest.raises(listing.ForeignLink, match="not followed"):
        listing.page(body, HERE)
