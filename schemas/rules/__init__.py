"""The content rules: what a message of each channel must satisfy before it is sent.

The producer checks a message before it accepts it. A consumer checks again, because a message may
have come straight to its topic (docs/front-door.md). Both get every broken rule at once, with the
field names that the sender used. The sentences never repeat the value that broke a rule, because
it may be a phone number. The rules of each channel are a module of this package.
"""

from collections.abc import Iterator

from schemas.errors import Violation
from schemas.messages import EmailMessage, Message, PushMessage, SmsMessage, VoiceMessage
from schemas.rules.checks import check_name
from schemas.rules.email import ATTACHMENTS_LIMIT, check_email
from schemas.rules.envelope import check_envelope
from schemas.rules.policy import ANYTHING, NO_POLICIES, Policies, Policy, is_country
from schemas.rules.push import check_push
from schemas.rules.telephony import check_sms, check_voice

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
    """Return every rule that a message breaks, in the order of its fields; empty if none.

    Args:
        message: the message to check.
        policy: the limits that the installation sets for the message's channel.
    """
    return (*check_envelope(message), *_check_content(message, policy))


def key_violations(idempotency_key: str | None) -> tuple[Violation, ...]:
    """Return every rule that an idempotency key breaks; empty if none."""
    return tuple(check_name("idempotency_key", idempotency_key, IDEMPOTENCY_KEY_LIMIT))


def _check_content(message: Message, policy: Policy) -> Iterator[Violation]:
    match message:
        case SmsMessage():
            return check_sms(message, policy)
        case EmailMessage():
            return check_email(message)
        case PushMessage():
            return check_push(message)
        case VoiceMessage():
            return check_voice(message, policy)
