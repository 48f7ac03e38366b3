"""The normal form of a recipient, in which the suppression list is kept and compared.

The API, the ledger and the receipt processor use it, so that a recipient matches its entry however
it is written.
"""

import re

from schemas.vocabulary import Channel

MAX_LENGTH = 2048  # characters; a Web Push endpoint is the longest of them
_NUMBER = re.compile(r"\+[1-9][0-9]{5,14}")


def normal(channel: Channel, recipient: str) -> str:
    """Return the normal form: an address in lower case, a number in E.164, a token as it is."""
    if channel is Channel.EMAIL:
        return recipient.rpartition("<")[2].rstrip("> ").strip().lower()
    if channel is Channel.PUSH:
        return recipient.strip()
    return re.sub(r"[\s().-]", "", recipient)


def problem_of(channel: Channel, recipient: str) -> str | None:
    """Return what is wrong with a recipient in its normal form; None if nothing is."""
    if not recipient or len(recipient) > MAX_LENGTH or not recipient.isprintable():
        return f"must have 1 to {MAX_LENGTH} characters on one line"
    if channel is Channel.EMAIL and not re.fullmatch(r"[^@\s]+@[^@\s]+", recipient):
        return "must be an e-mail address"
    if channel in {Channel.SMS, Channel.VOICE} and not _NUMBER.fullmatch(recipient):
        return "must be a phone number in E.164, such as +12025550100"
    return None
