"""Phone numbers: whatever a shop wrote to E.164, or None.

`phonenumbers` decides what is valid, but costs 60-100 microseconds a number, more than
the rest of an order. Numbers that need no interpretation (nearly all, once a shop stores
E.164 or plain national digits) are therefore checked against the same numbering plan
compiled to one pattern per region; whatever that cannot say for certain goes to the
library. A test holds both to the same answers.
"""

import re
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Final, NamedTuple

import phonenumbers
from phonenumbers import PhoneMetadata
from phonenumbers.phonemetadata import PhoneNumberDesc

__all__ = ["phone", "region"]

_MAX_RAW: Final = 60  # characters; an E.164 number has 15 digits
_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")
_DIGITS: Final = re.compile(r"[0-9]{4,17}")
_SEPARATORS: Final = str.maketrans("", "", " -.()\u00a0")
# Names in daily use that are not the ISO 3166-1 code.
_ALIASES: Final = {"UK": "GB", "USA": "US"}


def phone(raw: str, country: str | None) -> str | None:
    """Return `raw` as a valid E.164 number; None if it cannot be one.

    `country` is what the address says: an ISO 3166-1 alpha-2 code in any case, or
    garbage. It decides how a number without country code is read; without it such a
    number is None.
    """
    if _E164.fullmatch(raw) and (certain := _international(raw[1:])) is not None:
        return certain  # as cheap as room in the cache, which most are not found in
    if len(raw) > _MAX_RAW:  # nor must it get into the cache
        return None
    return _read(raw, region(country))


def region(country: str | None) -> str | None:
    """Return the ISO 3166-1 alpha-2 code `country` stands for, None if it is none."""
    if country is None or country in phonenumbers.SUPPORTED_REGIONS:
        return country
    code = country.strip().upper()
    code = _ALIASES.get(code, code)
    return code if code in phonenumbers.SUPPORTED_REGIONS else None


@lru_cache(maxsize=16_384)  # ~300 bytes an entry; customers order more than once
def _read(raw: str, home: str | None) -> str | None:
    text = raw.translate(_SEPARATORS)
    quick = None
    if _E164.fullmatch(text):
        quick = _international(text[1:])
    elif home is not None and _DIGITS.fullmatch(text):
        quick = _national(text, home)
    if quick is not None:
        return quick
    found = _interpreted(raw, home)
    if found is None and text.startswith("00"):
        # The prefix most of the world dials, also where the region dials another one.
        found = _interpreted("+" + text[2:], home)
    return found


def _interpreted(raw: str, home: str | None) -> str | None:
    try:
        number = phonenumbers.parse(raw, home)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_valid_number(number):
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


class _Region(NamedTuple):
    leading: re.Pattern[str] | None  # such numbers belong to this region of the plan
    valid: re.Pattern[str]  # a whole national number in use


class _Plan(NamedTuple):
    """The numbers behind one country calling code."""

    prefix: re.Pattern[str] | None  # what may precede them at home, and nowhere else
    regions: tuple[_Region, ...]  # none: the code is no country's


class _Dialling(NamedTuple):
    """How one region writes its own numbers."""

    code: str
    international: re.Pattern[str] | None  # what is dialled before a country code
    prefix: re.Pattern[str] | None  # what may precede a national number
    trunk: str | None  # that prefix when it is only dropped and never rewritten


def _international(digits: str) -> str | None:
    """`digits` as E.164 if that is certain; None leaves it to the library."""
    for length in (1, 2, 3):
        prefix, regions = _plan(digits[:length])
        if regions:
            national = digits[length:]
            at_home = prefix is not None and prefix.match(national)
            return "+" + digits if not at_home and _in_use(regions, national) else None
    return None


def _national(digits: str, home: str) -> str | None:
    dialling = _dialling(home)
    if digits.startswith(dialling.code) or (
        dialling.international is not None and dialling.international.match(digits)
    ):
        return None
    if dialling.prefix is not None and dialling.prefix.match(digits):
        if dialling.trunk is None:
            return None
        digits = digits.removeprefix(dialling.trunk)
    if _in_use(_plan(dialling.code).regions, digits):
        return f"+{dialling.code}{digits}"
    return None


def _in_use(regions: Sequence[_Region], national: str) -> bool:
    """Answer as `is_valid_number` does, asking in the same order."""
    if len(regions) == 1:
        return regions[0].valid.fullmatch(national) is not None
    for leading, valid in regions:
        if leading is None:
            if valid.fullmatch(national):
                return True
        elif leading.match(national):
            return valid.fullmatch(national) is not None
    return False


def _metadata(name: str) -> PhoneMetadata:
    """Return a region's metadata; every supported region has some."""
    metadata = PhoneMetadata.metadata_for_region(name)
    if metadata is None:
        raise LookupError(name)
    return metadata


@cache  # one entry per number of up to three digits
def _plan(code: str) -> _Plan:
    """Return what begins with that country calling code; nothing if it is none."""
    names = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(code), ())
    if not names or names[0] == "001":  # satellites, international freephone
        return _Plan(None, ())
    regions = []
    for name in names:
        metadata = _metadata(name)
        leading = metadata.leading_digits
        kinds = (
            metadata.mobile,  # nearly all there are; the order changes no answer
            metadata.fixed_line,
            metadata.premium_rate,
            metadata.toll_free,
            metadata.shared_cost,
            metadata.voip,
            metadata.personal_number,
            metadata.pager,
            metadata.uan,
            metadata.voicemail,
        )
        of_a_kind = "|".join(filter(None, map(_pattern, kinds)))
        regions.append(
            _Region(
                None if leading is None else re.compile(leading),
                re.compile(f"(?={_pattern(metadata.general_desc)}\\Z)(?:{of_a_kind})"),
            )
        )
    return _Plan(_dialling(names[0]).prefix, tuple(regions))


def _pattern(kind: PhoneNumberDesc | None) -> str:
    """Return one kind of number as a pattern; blank if there are none of it."""
    if kind is None or not kind.national_number_pattern:
        return ""
    if -1 in kind.possible_length:  # the library's way to say that there are none
        return ""
    # No lengths at all: those of the general description, which is asked beside it.
    lengths = "|".join(f".{{{length}}}\\Z" for length in kind.possible_length)
    return f"(?:(?={lengths})(?:{kind.national_number_pattern}))"


@cache  # one entry per region
def _dialling(name: str) -> _Dialling:
    metadata = _metadata(name)
    prefix, trunk = metadata.national_prefix_for_parsing, metadata.national_prefix
    abroad = metadata.international_prefix
    return _Dialling(
        code=str(metadata.country_code),
        international=re.compile(abroad) if abroad else None,
        prefix=re.compile(prefix) if prefix else None,
        trunk=trunk if prefix == trunk else None,
    )
