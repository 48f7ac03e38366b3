"""The rules for text messages and calls: whom they reach, from whom, and what they say."""

import re
from collections.abc import Iterator

from schemas.errors import Violation
from schemas.messages import SmsMessage, VoiceMessage
from schemas.rules.numbers import calling, reachable, text_sender
from schemas.rules.policy import Policy
from schemas.rules.words import between, https, said, word
from schemas.segments import Alphabet, Segments, segments

# What Twilio and AWS take, who take most; a letter that takes the place of two counts as two:
# https://www.twilio.com/docs/api/errors/21617
SMS_UNITS_LIMIT = 1600
SPEECH_LIMIT = 3000  # characters

_LANGUAGE = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,5}")


def sms(message: SmsMessage, policy: Policy) -> Iterator[Violation]:
    """What is wrong with a text message."""
    yield from reachable("to", message.to, policy, by_text=True)
    yield from _text(message.body, policy)
    if message.sender is not None:
        yield from text_sender("from", message.sender, to=message.to)


def voice(message: VoiceMessage, policy: Policy) -> Iterator[Violation]:
    """What is wrong with a call."""
    yield from reachable("to", message.to, policy, by_text=False)
    if (message.text is None) == (message.audio_url is None):
        yield Violation("text", "give exactly one of text and audio_url")
    if message.text is not None:
        yield from said("text", message.text, SPEECH_LIMIT)
    if message.audio_url is not None:
        yield from https("audio_url", message.audio_url)
    if message.language is not None and not _LANGUAGE.fullmatch(message.language):
        yield Violation("language", "must be a BCP 47 language tag, such as en-US")
    yield from word("voice", message.voice, 128)
    yield from between("repeat", message.repeat, 1, 10)
    if message.sender is not None:
        yield from calling("from", message.sender)


def _text(body: str, policy: Policy) -> Iterator[Violation]:
    if not body.strip() or len(body) > SMS_UNITS_LIMIT:
        yield Violation("body", f"must have 1 to {SMS_UNITS_LIMIT} characters")
        return
    if policy.parts is None and 2 * len(body) <= SMS_UNITS_LIMIT:
        return  # however many of its letters take two places
    found = segments(body)
    if found.units > SMS_UNITS_LIMIT:
        yield Violation("body", f"{_told(found)}; providers take {SMS_UNITS_LIMIT} characters")
    elif policy.parts is not None and found.count > policy.parts:
        yield Violation("body", f"{_told(found)}; this service sends {policy.parts} at most")


def _told(found: Segments) -> str:
    why = " (a letter that GSM-7 lacks makes all of it UCS-2)" * (found.alphabet is Alphabet.UCS2)
    return f"is of {found.units} characters in {found.alphabet}{why}, {found.count} parts"
