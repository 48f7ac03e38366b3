"""The content rules: what a message of each channel must be before anybody tries to send it.

The producer asks before it accepts a message, and a consumer asks again for one that came to its
topic by the front door. Both get every broken rule at once, by the sender's own field names, in
sentences that never repeat the offending value (it may be somebody's number). Each channel's rules
are a module here.
"""

from collections.abc import Iterator

from schemas.errors import Violation
from schemas.messages import EmailMessage, Message, PushMessage, SmsMessage, VoiceMessage
from schemas.rules.email import ATTACHMENTS_LIMIT, email
from schemas.rules.envelope import envelope
from schemas.rules.policy import ANYTHING, NO_POLICIES, Policies, Policy, is_country
from schemas.rules.push import push
from schemas.rules.telephony import sms, voice
from schemas.rules.words import word

__all__ = [
    "ANYTHING",
    "ATTACHMENTS_LIMIT",
    "IDEMPOTENCY_KEY_LIMIT",
    "NO_POLICIES",
    "Policies",
    "Policy",
    "is_country",
    "key_violations",
    "violations",
]

IDEMPOTENCY_KEY_LIMIT = 255


def violations(message: Message, policy: Policy = ANYTHING) -> tuple[Violation, ...]:
    """Every rule that `message` breaks, in the order of its fields; empty when it may be sent.

    Args:
        policy: the installation's, for the message's channel.
    """
    return (*envelope(message), *_content(message, policy))


def key_violations(idempotency_key: str | None) -> tuple[Violation, ...]:
    """What is wrong with an idempotency key."""
    return tuple(word("idempotency_key", idempotency_key, IDEMPOTENCY_KEY_LIMIT))


def _content(message: Message, policy: Policy) -> Iterator[Violation]:
    match message:
        case SmsMessage():
            return sms(message, policy)
        case EmailMessage():
            return email(message)
        case PushMessage():
            return push(message)
        case VoiceMessage():
            return voice(message, policy)
