"""The forms of single values that Klaviyo checks, and the words it refuses them with."""

import datetime as dt
import re

__all__ = [
    "bad_currency",
    "bad_email",
    "bad_image",
    "bad_locale",
    "bad_phone",
    "instant",
    "stamp",
]

_MAX_EMAIL = 100  # characters; Klaviyo, "Profiles API overview"
_EMAIL = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.)+"
    r"(?:[A-Za-z]{2,63}|[Xx][Nn]--[A-Za-z0-9-]*[A-Za-z0-9])"  # RFC 5890: not only ASCII
)
# E.164: + and 8 to 15 digits. The North American plan has ten after the 1, area code and
# exchange both beginning with 2 to 9.
_PHONE = re.compile(r"\+(?:1[2-9]\d{2}[2-9]\d{6}|[2-9]\d{7,14})")
# BCP 47: language, optional script, optional region.
_LOCALE = re.compile(r"[A-Za-z]{2,3}(?:-[A-Za-z]{4})?(?:-(?:[A-Za-z]{2}|\d{3}))?")
_URL = re.compile(r"https?://[^\s/]+\S*")
# ISO 4217, codes in use.
_CODES = """
    AED AFN ALL AMD ANG AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL
    BSD BTN BWP BYN BZD CAD CDF CHF CLF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD
    EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS
    INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR LRD
    LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK
    NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK
    SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH
    UGX USD UYU UZS VED VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWG
"""
_CURRENCIES = frozenset(_CODES.split())


def bad_email(text: str) -> str | None:
    """Return why `text` is no e-mail address, or None."""
    if len(text) <= _MAX_EMAIL and _EMAIL.fullmatch(text):
        return None
    return "Invalid email address"


def bad_phone(text: str) -> str | None:
    """Return why `text` is no E.164 phone number, or None."""
    if _PHONE.fullmatch(text):
        return None
    return "Invalid phone number format (Example of a valid format: +12345678901)"


def bad_locale(text: str) -> str | None:
    """Return why `text` is no BCP 47 language tag, or None."""
    return None if _LOCALE.fullmatch(text) else "Invalid locale"


def bad_image(text: str) -> str | None:
    """Return why `text` is no URL, or None."""
    return None if _URL.fullmatch(text) else "Enter a valid URL."


def bad_currency(text: str) -> str | None:
    """Return why `text` is no ISO 4217 code, or None."""
    return (
        None if text in _CURRENCIES else f"'{text}' is not a valid ISO 4217 currency code"
    )


def instant(text: str) -> float | None:
    """Return an ISO 8601 date and time as Unix seconds, None when it is none.

    Without an offset it is read as UTC; the documents do not say.
    """
    if "T" not in text and " " not in text:
        return None
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return moment.timestamp()


def stamp(seconds: float) -> str:
    """Return Unix seconds as Klaviyo writes a time: whole seconds, UTC."""
    return dt.datetime.fromtimestamp(int(seconds), dt.UTC).isoformat()
