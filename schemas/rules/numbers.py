"""What a phone number must be to be written to or called, and to stand as a sender.

The rules of SMS and voice ask. Numbering plans are the library's; what is ours is which kinds of
numbers no message is for, and where a name does not pass for a sender.
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
_NOWHERE = "001"  # what the library calls the country of satellites and other networks

_NOBODYS = re.compile(r"\+1(?:[2-9]\d\d55501\d\d|500555\d{4})")

# Numbers that are paid for by whoever reaches them, or that reach a service and no person.
_COSTLY = frozenset({PhoneNumberType.PREMIUM_RATE})
_UNTEXTED = _COSTLY | {
    PhoneNumberType.SHARED_COST,
    PhoneNumberType.UAN,
    PhoneNumberType.VOICEMAIL,
    PhoneNumberType.PAGER,
}

# Where a name is not carried as the sender of a text, by two providers' lists that agree:
# https://docs.aws.amazon.com/sns/latest/dg/sns-supported-regions-countries.html
# https://support.twilio.com/hc/en-us/articles/223133767-International-support-for-Alphanumeric-Sender-ID
# Countries that register names, and those of which the lists say different things, are left out:
# there the provider decides.
NAMELESS = frozenset(
    {
        *("US", "CA", "PR", "GU"),
        *("AR", "BR", "CL", "CO", "CR", "DO", "EC", "GT", "HN", "MX", "NI", "PA", "PE", "SV"),
        *("UY", "VE", "CN", "KR", "TW", "NZ", "ZA"),
    }
)


def reachable(field: str, value: str, policy: Policy, *, by_text: bool) -> Iterator[Violation]:
    """A number to which something may be sent.

    Args:
        by_text: or by a call.
    """
    found = _read(value)
    if found is None:
        yield _impossible(field)
        return
    kind = phonenumbers.number_type(found)
    if kind in (_UNTEXTED if by_text else _COSTLY):
        yield Violation(field, "must not be a premium-rate or service number")
    elif by_text and kind == PhoneNumberType.UNKNOWN and not _is_as_long_as_a_mobiles(found):
        yield Violation(field, "has a length that no mobile number of its country has")
    elif policy.countries is not None and _country_of(found) not in policy.countries:
        yield Violation(field, "is of a country that this service does not send to")


def calling(field: str, value: str) -> Iterator[Violation]:
    """A number that a call comes from."""
    if _read(value) is None:
        yield _impossible(field)


def text_sender(field: str, value: str, *, to: str) -> Iterator[Violation]:
    """What a text message comes from: a number, a short code or, where it is carried, a name."""
    if _SHORT_CODE.fullmatch(value) or _read(value) is not None:
        return
    if not _SENDER_NAME.fullmatch(value):
        yield Violation(
            field, "must be an E.164 number, a short code, or a name of at most 11 characters"
        )
    elif _is_nobodys(to):
        return
    elif (recipient := _read(to)) is not None and (country := _country_of(recipient)) in NAMELESS:
        yield Violation(
            field, f"must be a number or a short code: networks of {country} carry no names"
        )


def _is_nobodys(number: str) -> bool:
    """North America's numbers for fiction, and Twilio's for tests: no network has them."""
    return _NOBODYS.fullmatch(number) is not None


def _impossible(field: str) -> Violation:
    return Violation(field, "must be a possible phone number in E.164, such as +12025550100")


def _read(value: str) -> PhoneNumber | None:
    """The number; None where it cannot be one."""
    if not _E164.fullmatch(value):
        return None
    if (plain := _read_plainly(value)) is not None:
        return plain
    try:
        found = phonenumbers.parse(value)
    except phonenumbers.NumberParseException:
        return None
    return found if phonenumbers.is_possible_number(found) else None


def _read_plainly(value: str) -> PhoneNumber | None:
    """What the library's parser would find for nearly every number, at a fifth of its cost."""
    for end in (2, 3, 4):  # no country code is the beginning of another
        if (code := int(value[1:end])) in phonenumbers.COUNTRY_CODE_TO_REGION_CODE:
            national = value[end:]
            if national.startswith("0"):
                return None
            found = PhoneNumber(country_code=code, national_number=int(national))
            return found if phonenumbers.is_possible_number(found) else None
    return None


def _country_of(number: PhoneNumber) -> str | None:
    """Its country's ISO code; None where several share a prefix and none has such a number."""
    return phonenumbers.region_code_for_number(number)


def _is_as_long_as_a_mobiles(number: PhoneNumber) -> bool:
    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(number.country_code or 0, ())
    return _NOWHERE in regions or phonenumbers.is_possible_number_for_type(
        number, PhoneNumberType.MOBILE
    )
