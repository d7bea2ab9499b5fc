"""What Klaviyo checks in a profile beyond its structure.

Sources: Klaviyo, "Profiles API overview" (identifiers, e-mail, phone), "Events API
overview" (an invalid phone beside a valid e-mail is let through there).
"""

from collections.abc import Iterator

from pipeline.sandbox.formats import bad_email, bad_image, bad_locale, bad_phone
from pipeline.sandbox.profile import IDENTIFIERS
from pipeline.sandbox.wire import Json, Problem, Refused

__all__ = ["attribute_problems", "identity_problem", "refuse"]

# Checked attributes but the phone number, which each way in treats differently.
_CHECKS = {"email": bad_email, "locale": bad_locale, "image": bad_image}


def attribute_problems(
    attributes: Json, place: str, *, phone: bool = True
) -> Iterator[Problem]:
    """Yield what is wrong with profile attributes at the pointer `place`.

    `phone` false leaves the phone number to the caller.
    """
    for name, bad in _CHECKS.items():
        value = attributes.get(name)
        if value is not None and (detail := bad(value)):
            yield Problem(detail, f"{place}/{name}")
    number = attributes.get("phone_number")
    if phone and number is not None and (detail := bad_phone(number)):
        yield Problem(detail, f"{place}/phone_number")


def identity_problem(
    attributes: Json,
    identifier: str | None,
    place: str,
    *,
    sms: bool,
) -> Problem | None:
    """Return a problem when nothing names the person.

    A phone number alone does only in an account that has SMS set up.
    """
    given = [kind for kind in IDENTIFIERS if attributes.get(kind)]
    if identifier or (given and (sms or given != ["phone_number"])):
        return None
    return Problem("One or more identifiers is required.", place)


def refuse(problems: list[Problem]) -> None:
    """Raise the 400 that carries `problems`, if there are any."""
    if problems:
        raise Refused(400, problems)
