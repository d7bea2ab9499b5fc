"""Who a message is about: what is repaired, what is left out, what is refused."""

import phonenumbers
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from schemas.commands import Identity
from schemas.event import Losses
from schemas.identity import email, external_id, identity
from schemas.phone import _international, _read, phone, region

REGIONS = sorted(phonenumbers.SUPPORTED_REGIONS)
KINDS = [
    phonenumbers.PhoneNumberType.FIXED_LINE,
    phonenumbers.PhoneNumberType.MOBILE,
    phonenumbers.PhoneNumberType.TOLL_FREE,
    phonenumbers.PhoneNumberType.VOIP,
]
EXAMPLES = [
    number
    for name in REGIONS
    for kind in KINDS
    if (number := phonenumbers.example_number_for_type(name, kind)) is not None
]


def by_library(raw: str, country: str | None) -> str | None:
    """What phonenumbers alone says."""
    try:
        number = phonenumbers.parse(raw, country)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("ada@shop.dev", "ada@shop.dev"),
        ("  Ada.Lovelace+x@Shop.DEV\n", "ada.lovelace+x@shop.dev"),
        ("o'brien@mail.example.co.uk", "o'brien@mail.example.co.uk"),
        ("a@xn--mller-kva.xn--p1ai", "a@xn--mller-kva.xn--p1ai"),
        ("a" * 64 + "@" + "b" * 31 + ".dev", "a" * 64 + "@" + "b" * 31 + ".dev"),
        ("a" * 64 + "@" + "b" * 32 + ".dev", None),
        ("a" * 65 + "@b.dev", None),
        ("ada@shop", None),
        ("ada@shop..dev", None),
        ("ada@-shop.dev", None),
        (".ada@shop.dev", None),
        ("a..da@shop.dev", None),
        ("ada shop@shop.dev", None),
        ("ada@@shop.dev", None),
        ("ada@127.0.0.1", None),
        ("\u212aate@shop.dev", None),
        ("ad\u00e4@shop.dev", None),
        ("n/a", None),
        ("", None),
        ("x" * 1_000_000 + "@shop.dev", None),
    ],
)
def test_email(raw: str, expected: str | None) -> None:
    assert email(raw) == expected


@given(st.emails())
def test_usable_emails_are_canonical(raw: str) -> None:
    usable = email(raw)
    if usable is not None:
        assert usable == raw.strip().lower()
        assert len(usable) <= 100
        assert email(usable) == usable


@pytest.mark.parametrize(
    ("raw", "country", "expected"),
    [
        ("+12025550123", None, "+12025550123"),
        ("+1 (202) 555-0123", None, "+12025550123"),
        ("(202) 555-0123", "US", "+12025550123"),
        ("202.555.0123", "us", "+12025550123"),
        ("1 202 555 0123", " Us ", "+12025550123"),
        ("202 555 0123", None, None),
        ("202 555 0123", "Atlantis", None),
        ("202 555 0123", "", None),
        ("0151 23456789", "DE", "+4915123456789"),
        ("+49 (0)151 23456789", None, "+4915123456789"),
        ("0049 151 23456789", None, "+4915123456789"),
        ("0049 151 23456789", "FR", "+4915123456789"),
        ("0049 151 23456789", "US", "+4915123456789"),
        ("011 49 151 23456789", "US", "+4915123456789"),
        ("34 612 34 56 78", "ES", "+34612345678"),
        ("020 7946 0958", "UK", "+442079460958"),
        ("06 698 12345", "IT", "+390669812345"),
        ("612 34 56 78", "ES", "+34612345678"),
        ("8 (912) 345-67-89", "RU", "+79123456789"),
        ("044 55 1234 5678", "MX", None),
        ("+1 202 555 0123 ext. 4", None, "+12025550123"),
        ("\uff0b1 202 555 0123", None, "+12025550123"),
        ("+1 555 0123", None, None),
        ("+999 1234567", None, None),
        ("0000000", "US", None),
        ("12345", "US", None),
        ("n/a", "US", None),
        ("", "US", None),
        ("+", "US", None),
        ("+" + "1" * 1_000_000, "US", None),
    ],
)
def test_phone(raw: str, country: str | None, expected: str | None) -> None:
    assert phone(raw, country) == expected


def test_examples_of_every_country_and_kind() -> None:
    """The quick way says what the library says, however a number is written."""
    styles = phonenumbers.PhoneNumberFormat
    for number in EXAMPLES:
        name = phonenumbers.region_code_for_number(number)
        for style in (styles.E164, styles.INTERNATIONAL, styles.NATIONAL):
            raw = phonenumbers.format_number(number, style)
            assert phone(raw, name) == by_library(raw, name)
        raw = phonenumbers.format_number(number, styles.E164)
        assert phone(raw, None) == raw == phone("00" + raw[1:], None)


def test_numbers_in_e164_seldom_need_the_library() -> None:
    """It costs more than the rest of an order."""
    plain = [
        phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        for number in EXAMPLES
    ]
    certain = [raw for raw in plain if _international(raw[1:]) == raw]
    assert len(certain) > 0.98 * len(plain)


@settings(max_examples=1500)
@given(
    raw=st.from_regex(r"\+?[0-9]{2,16}", fullmatch=True),
    country=st.sampled_from(REGIONS),
)
@example("+5491123456789", "AR")
@example("0111523456789", "AR")
@example("8103533703", "BY")  # begins with what is dialled to leave the country
@example("+3758103533703", "BY")  # and with what precedes a national number
@example("358234567", "AX")  # begins with the country's own code
@example("+80012345678", "US")  # belongs to no country
@example("0669812345", "IT")  # keeps its zero
def test_any_digits_mean_what_the_library_says(raw: str, country: str) -> None:
    expected = by_library(raw, country)
    if expected is None and raw.startswith("00"):
        expected = by_library("+" + raw[2:], country)
    assert phone(raw, country) == expected


@settings(max_examples=1500)
@given(
    number=st.sampled_from(EXAMPLES),
    at=st.integers(0, 14),
    digits=st.from_regex(r"[0-9]{0,2}", fullmatch=True),
    plus=st.booleans(),
)
def test_nearly_valid_digits_mean_what_the_library_says(
    number: phonenumbers.PhoneNumber, at: int, digits: str, *, plus: bool
) -> None:
    name = phonenumbers.region_code_for_country_code(number.country_code or 0)
    national = phonenumbers.national_significant_number(number)
    changed = national[:at] + digits + national[at + 1 :]
    raw = f"+{number.country_code}{changed}" if plus else changed
    country = name if name in phonenumbers.SUPPORTED_REGIONS else None
    expected = by_library(raw, country)
    if expected is None and raw.startswith("00"):
        expected = by_library("+" + raw[2:], country)
    assert phone(raw, country) == expected


@settings(max_examples=300)
@given(raw=st.text(max_size=20), country=st.none() | st.text(max_size=3))
def test_no_text_raises(raw: str, country: str | None) -> None:
    usable = phone(raw, country)
    assert usable is None or phone(usable, None) == usable


def test_what_is_too_long_to_be_a_phone_is_not_kept() -> None:
    """Memory stays bounded whatever a message says."""
    before = _read.cache_info().misses
    assert phone("1" * 10_000_000, "US") is None
    assert _read.cache_info().misses == before


def test_country_in_any_case_or_garbage() -> None:
    assert [
        region(c) for c in ("us", " De ", "UK", "USA", "", "XX", "Germany", None)
    ] == [
        *("US", "DE", "GB", "US"),
        *(None,) * 4,
    ]


@pytest.mark.parametrize(
    ("own", "mail", "number", "expected", "lost"),
    [
        (
            "C-1",
            "ada@shop.dev",
            "+12025550123",
            ("C-1", "ada@shop.dev", "+12025550123"),
            [],
        ),
        (" C-1 ", UNSET, UNSET, ("C-1", None, None), []),
        (" ", "  ", "", None, []),
        (None, None, None, None, []),
        ("C-1", "bad", "bad", ("C-1", None, None), ["email", "phone"]),
        (None, "bad", "+12025550123", (None, None, "+12025550123"), ["email"]),
        (None, "ada@shop.dev", "bad", (None, "ada@shop.dev", None), ["phone"]),
        (None, "bad", "bad", None, ["email", "phone"]),
    ],
)
def test_identity(
    own: str | None,
    mail: str | None,
    number: str | None,
    expected: tuple[str | None, ...] | None,
    lost: list[str],
) -> None:
    losses = Losses()
    who = identity(own, mail, number, None, losses)
    assert who == (None if expected is None else Identity(*expected))
    assert list(losses.degraded) == lost


def test_names_begin_with_the_strongest() -> None:
    assert Identity("C-1", "a@b.dev", "+12025550123").names() == (
        *("i:C-1", "e:a@b.dev", "p:+12025550123"),
    )
    assert external_id("\t") is None
