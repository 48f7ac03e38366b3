"""The closed words of the system: channels, statuses, reasons, priorities.

Every service, the API, the page and the analysts' views use these words and no others. They travel
as plain strings in Avro (a reader in any language sees the word itself), and become these types
when a record is decoded.
"""

from enum import StrEnum


class Channel(StrEnum):
    """A way of reaching a person."""

    SMS = "sms"
    EMAIL = "email"
    PUSH = "push"
    VOICE = "voice"


class Priority(StrEnum):
    """How urgent the sender says a message is."""

    HIGH = "high"
    NORMAL = "normal"
    BULK = "bulk"


class OnDoubt(StrEnum):
    """What to do when a provider was called and its answer was lost."""

    RESEND = "resend"
    HOLD = "hold"


class Mode(StrEnum):
    """Whether a message is meant to arrive.

    TEST goes to a provider's own test mode, which checks and answers it and delivers nothing;
    SIMULATED to a simulated provider alone.
    """

    LIVE = "live"
    TEST = "test"
    SIMULATED = "simulated"


class Platform(StrEnum):
    """The push service a device token belongs to."""

    FCM = "fcm"
    APNS = "apns"
    WEBPUSH = "webpush"
    EXPO = "expo"


class Status(StrEnum):
    """Where a message stands; see `schemas.lifecycle` for the ways between them."""

    PENDING = "pending"
    SENDING = "sending"
    UNKNOWN = "unknown"
    SENT = "sent"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELIVERED = "delivered"


class Reason(StrEnum):
    """Why a message has the status it has: the closed list, documented in docs/lifecycle.md."""

    QUEUED = "queued"  # accepted, on its way to a consumer
    SCHEDULED = "scheduled"  # waits for its send_at
    CLAIMED = "claimed"  # a consumer begins an attempt
    ACCEPTED = "accepted"  # the provider took it
    DELIVERED = "delivered"  # the provider says it arrived
    UNDELIVERED = "undelivered"  # the provider says it did not arrive
    REJECTED = "rejected"  # the provider refused it for good
    INVALID_RECIPIENT = "invalid_recipient"  # nobody can be reached there
    INVALID_CONTENT = "invalid_content"  # the message breaks a rule of its channel
    SUPPRESSED = "suppressed"  # the recipient asked not to be written to
    EXPIRED = "expired"  # expires_at passed before it could be sent
    RETRIES_EXHAUSTED = "retries_exhausted"  # every attempt was refused for the moment
    RATE_LIMITED = "rate_limited"  # the provider asked us to slow down; tried again later
    PROVIDER_ERROR = "provider_error"  # the provider failed; tried again later
    TIMEOUT = "timeout"  # no connection in time; nothing was sent; tried again later
    ACCOUNT_FAULT = "account_fault"  # the provider refused our account; tried again
    AMBIGUOUS = "ambiguous"  # a call was made and its answer was lost
    UNDECODABLE = "undecodable"  # the bytes in the topic are not a message
    NO_PROVIDER = "no_provider"  # the channel has no provider that takes it
    CANCELLED = "cancelled"  # withdrawn before anything was sent
    DUPLICATE = "duplicate"  # the same message again; nothing was sent twice
    RESENT = "resent"  # a person asked for another attempt
    RESOLVED = "resolved"  # a person settled what was unknown
    NO_RECEIPT = "no_receipt"  # nothing came for so long that somebody should know


class SuppressionReason(StrEnum):
    """Why a recipient must not be reached."""

    OPT_OUT = "opt_out"
    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    MANUAL = "manual"
