"""The rules for phone numbers: as the recipient, as the caller and as the sender of a text.

The rules of text messages and voice calls use these checks. The numbering plans come from the
library `phonenumbers`. This module decides which kinds of numbers get no messages, and in which
countries a name is not valid as a sender.
"""

import re
from collections.abc import Iterator

import phonenumbers
from phonenumbers import PhoneNumber, PhoneNumberType

from schemas.errors import Violation
from schemas.rules.policy import Policy

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_SHORT_CODE = re.compile(r"[0-9]{3,8}")
_SENDER_NAME = re.compile(r"(?=.*[A-Za-z])[A-Za-z0-9 &._-]{1,11}")
_NO_COUNTRY = "001"  # the library's code for satellite and other international networks

_FICTIONAL = re.compile(r"\+1(?:[2-9]\d\d55501\d\d|500555\d{4})")

# Numbers that cost the caller extra, and numbers that reach a service and not a person.
_PREMIUM = frozenset({PhoneNumberType.PREMIUM_RATE})
_NOT_FOR_TEXTS = _PREMIUM | {
    PhoneNumberType.SHARED_COST,
    PhoneNumberType.UAN,
    PhoneNumberType.VOICEMAIL,
    PhoneNumberType.PAGER,
}

# Countries whose networks do not carry a name as the sender of a text. Both lists say so:
# https://docs.aws.amazon.com/sns/latest/dg/sns-supported-regions-countries.html
# https://support.twilio.com/hc/en-us/articles/223133767-International-support-for-Alphanumeric-Sender-ID
# Countries where names must be registered, and countries on which the lists differ, are not here:
# the provider decides about them.
COUNTRIES_WITHOUT_SENDER_NAMES = frozenset(
    {
        *("US", "CA", "PR", "GU"),
        *("AR", "BR", "CL", "CO", "CR", "DO", "EC", "GT", "HN", "MX", "NI", "PA", "PE", "SV"),
        *("UY", "VE", "CN", "KR", "TW", "NZ", "ZA"),
    }
)


def check_recipient_number(
    field: str, value: str, policy: Policy, *, for_text: bool
) -> Iterator[Violation]:
    """Check a number that a message is sent to.

    Args:
        field: the name of the field, for the violation.
        value: the number.
        policy: the countries that the installation reaches.
        for_text: whether the number gets a text message; otherwise it gets a call.
    """
    number = _parse(value)
    if number is None:
        yield _impossible(field)
        return
    number_type = phonenumbers.number_type(number)
    if number_type in (_NOT_FOR_TEXTS if for_text else _PREMIUM):
        yield Violation(field, "must not be a premium-rate or service number")
    elif for_text and number_type == PhoneNumberType.UNKNOWN and not _has_mobile_length(number):
        yield Violation(field, "has a length that no mobile number of its country has")
    elif policy.countries is not None and _country_of(number) not in policy.countries:
        yield Violation(field, "is in a country that this service does not send to")


def check_calling_number(field: str, value: str) -> Iterator[Violation]:
    """Check the number that a call comes from."""
    if _parse(value) is None:
        yield _impossible(field)


def check_text_sender(field: str, value: str, *, to: str) -> Iterator[Violation]:
    """Check the sender of a text message: a number, a short code or, where networks carry it, a
    name.

    Args:
        field: the name of the field, for the violation.
        value: the sender.
        to: the recipient's number. Its country decides whether a name is valid.
    """
    if _SHORT_CODE.fullmatch(value) or _parse(value) is not None:
        return
    if not _SENDER_NAME.fullmatch(value):
        yield Violation(
            field, "must be an E.164 number, a short code, or a name of at most 11 characters"
        )
    elif not _is_fictional(to) and (country := _country_without_sender_names(to)) is not None:
        yield Violation(
            field, f"must be a number or a short code: networks of {country} carry no names"
        )


def _country_without_sender_names(number: str) -> str | None:
    """The country of a number, if its networks carry no sender names; else None."""
    parsed = _parse(number)
    country = None if parsed is None else _country_of(parsed)
    return country if country in COUNTRIES_WITHOUT_SENDER_NAMES else None


def _is_fictional(number: str) -> bool:
    """Whether no network has the number: North America's fictional block, or Twilio's tests."""
    return _FICTIONAL.fullmatch(number) is not None


def _impossible(field: str) -> Violation:
    return Violation(field, "must be a possible phone number in E.164, such as +12025550100")


def _parse(value: str) -> PhoneNumber | None:
    """Parse an E.164 number; None if it is not possible in its country."""
    if not _E164.fullmatch(value):
        return None
    if (number := _parse_fast(value)) is not None:
        return number
    try:
        number = phonenumbers.parse(value)
    except phonenumbers.NumberParseException:
        return None
    return number if phonenumbers.is_possible_number(number) else None


def _parse_fast(value: str) -> PhoneNumber | None:
    """Parse as the library does for nearly every number, at a fifth of its cost; None if the
    library must decide."""
    for end in (2, 3, 4):  # no country code is a prefix of another
        if (code := int(value[1:end])) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            national = value[end:]
            if national.startswith("0"):
                return None
            number = PhoneNumber(country_code=code, national_number=int(national))
            return number if phonenumbers.is_possible_number(number) else None
    return None


def _country_of(number: PhoneNumber) -> str | None:
    """The ISO code of a number's country. None if several countries share its prefix and none of
    them has such a number."""
    return phonenumbers.region_code_for_number(number)


def _has_mobile_length(number: PhoneNumber) -> bool:
    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(number.country_code or 0, ())
    return _NO_COUNTRY in regions or phonenumbers.is_possible_number_for_type(
        number, PhoneNumberType.MOBILE
    )
