"""The rules for text messages and voice calls: recipient, sender and content.

`schemas.rules.violations` calls `check_sms` and `check_voice`.
"""

import re
from collections.abc import Iterator

from schemas.errors import Violation
from schemas.messages import SmsMessage, VoiceMessage
from schemas.rules.checks import check_https_url, check_name, check_range, check_text
from schemas.rules.numbers import check_calling_number, check_recipient_number, check_text_sender
from schemas.rules.policy import Policy
from schemas.segments import Alphabet, Segments, segments

# The limit of Twilio and AWS, the highest of all providers. A character that takes two units counts
# as two: https://www.twilio.com/docs/api/errors/21617
SMS_UNITS_LIMIT = 1600
SPEECH_LIMIT = 3000  # characters

_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,5}")


def check_sms(message: SmsMessage, policy: Policy) -> Iterator[Violation]:
    """Check a text message."""
    yield from check_recipient_number("to", message.to, policy, for_text=True)
    yield from _check_body(message.body, policy)
    if message.sender is not None:
        yield from check_text_sender("from", message.sender, to=message.to)


def check_voice(message: VoiceMessage, policy: Policy) -> Iterator[Violation]:
    """Check a voice call."""
    yield from check_recipient_number("to", message.to, policy, for_text=False)
    if (message.text is None) == (message.audio_url is None):
        yield Violation("text", "give exactly one of text and audio_url")
    if message.text is not None:
        yield from check_text("text", message.text, SPEECH_LIMIT)
    if message.audio_url is not None:
        yield from check_https_url("audio_url", message.audio_url)
    if message.language is not None and not _LANGUAGE.fullmatch(message.language):
        yield Violation("language", "must be a BCP 47 language tag, such as en-US")
    yield from check_name("voice", message.voice, 128)
    yield from check_range("repeat", message.repeat, 1, 10)
    if message.sender is not None:
        yield from check_calling_number("from", message.sender)


def _check_body(body: str, policy: Policy) -> Iterator[Violation]:
    if not body.strip() or len(body) > SMS_UNITS_LIMIT:
        yield Violation("body", f"must have 1 to {SMS_UNITS_LIMIT} characters")
        return
    if policy.parts is None and 2 * len(body) <= SMS_UNITS_LIMIT:
        return  # short enough even if every character takes two units
    counted = segments(body)
    if counted.units > SMS_UNITS_LIMIT:
        yield Violation("body", f"{_describe(counted)}; providers accept {SMS_UNITS_LIMIT}")
    elif policy.parts is not None and counted.count > policy.parts:
        yield Violation("body", f"{_describe(counted)}; this service sends at most {policy.parts}")


def _describe(counted: Segments) -> str:
    cause = " (a character outside GSM-7 puts the whole text in UCS-2)"
    why = cause if counted.alphabet is Alphabet.UCS2 else ""
    return f"has {counted.units} characters in {counted.alphabet}{why}, in {counted.count} segments"
