"""One form for every way of writing a recipient, so that the list cannot be missed by a capital."""

import re

from schemas.vocabulary import Channel

LIMIT = 2048  # characters; a Web Push endpoint is the longest of them
_NUMBER = re.compile(r"\+[1-9][0-9]{5,14}")


def normal(channel: Channel, recipient: str) -> str:
    """The form that is compared: an address in small letters, a number in E.164, a token as is."""
    if channel is Channel.EMAIL:
        return recipient.rpartition("<")[2].rstrip("> ").strip().lower()
    if channel is Channel.PUSH:
        return recipient.strip()
    return re.sub(r"[\s().-]", "", recipient)


def problem_of(channel: Channel, recipient: str) -> str | None:
    """What is wrong with a recipient in its normal form; None if nothing is."""
    if not recipient or len(recipient) > LIMIT or not recipient.isprintable():
        return f"must have 1 to {LIMIT} characters, on one line"
    if channel is Channel.EMAIL and not re.fullmatch(r"[^@\s]+@[^@\s]+", recipient):
        return "must be an e-mail address"
    if channel in {Channel.SMS, Channel.VOICE} and not _NUMBER.fullmatch(recipient):
        return "must be a phone number in E.164, such as +12025550100"
    return None
