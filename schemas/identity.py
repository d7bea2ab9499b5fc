"""Who a message is about: external id, e-mail and phone; parse, repair or leave out."""

import re
from typing import Final

from msgspec import UNSET, UnsetType

from schemas.commands import Identity
from schemas.event import Losses, Rejected
from schemas.phone import phone

__all__ = ["email", "external_id", "identity", "nobody", "phone"]

_MAX_EMAIL: Final = 100  # characters; Klaviyo, "Profiles API overview"
# RFC 5321 mailboxes without quoted local parts and address literals: no customer has
# them. ASCII only, as Klaviyo documents nothing else. The last label is a name, not a
# number.
_EMAIL: Final = re.compile(
    r"(?=[^@]{1,64}@)"
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+"
    r"(?:[A-Za-z]{2,63}|xn--[A-Za-z0-9-]{0,58}[A-Za-z0-9])",
)


def email(raw: str) -> str | None:
    """Return the address trimmed and in lower case; None if Klaviyo would refuse it."""
    text = raw.strip()
    if len(text) <= _MAX_EMAIL and _EMAIL.fullmatch(text):
        return text.lower()
    return None


def external_id(raw: str) -> str | None:
    """Return the id trimmed; None if it is blank."""
    return raw.strip() or None


def identity(
    own: str | None,
    mail: str | UnsetType | None,
    number: str | UnsetType | None,
    country: str | None,
    losses: Losses,
) -> Identity | None:
    """Return the usable identifiers of a customer; None if there are none.

    A blank string is absent. An e-mail or phone that cannot be used is left out and
    counted: it must not keep a customer with another identifier from being
    updated.
    """
    usable_mail = usable_phone = None
    if mail is not UNSET and mail is not None and mail and not mail.isspace():
        usable_mail = email(mail)
        if usable_mail is None:
            losses.lose("email")
    if number is not UNSET and number is not None and number and not number.isspace():
        usable_phone = phone(number, country)
        if usable_phone is None:
            losses.lose("phone")
    usable_id = None if own is None else external_id(own)
    if usable_id is None and usable_mail is None and usable_phone is None:
        return None
    return Identity(usable_id, usable_mail, usable_phone)


def nobody(path: str) -> Rejected:
    """Say that the customer at `path` cannot be told from any other."""
    return Rejected(
        "no_identifier",
        "plan",
        path,
        "no usable id, email or phone: cannot tell whose it is",
    )
