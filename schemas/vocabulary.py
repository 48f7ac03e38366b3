"""The closed vocabulary of the system: channels, statuses, reasons, priorities.

Every service, the API, the page and the analysts' views use these values and no others. In Avro
they are plain strings, so that a reader in any language sees the value itself. They become these
types when a record is decoded.
"""

from enum import StrEnum


class Channel(StrEnum):
    """The medium of a message."""

    SMS = "sms"
    EMAIL = "email"
    PUSH = "push"
    VOICE = "voice"


class Priority(StrEnum):
    """The urgency of a message, as the sender sets it."""

    HIGH = "high"
    NORMAL = "normal"
    BULK = "bulk"


class OnDoubt(StrEnum):
    """What to do if a provider was called and its answer was lost."""

    RESEND = "resend"
    HOLD = "hold"


class Mode(StrEnum):
    """Whether a message is to be delivered.

    TEST uses a provider's own test mode, which checks the message, answers it and delivers nothing.
    SIMULATED uses a simulated provider only.
    """

    LIVE = "live"
    TEST = "test"
    SIMULATED = "simulated"


class Platform(StrEnum):
    """The push service that a device token belongs to."""

    FCM = "fcm"
    APNS = "apns"
    WEBPUSH = "webpush"
    EXPO = "expo"


class Status(StrEnum):
    """The status of a message; `schemas.lifecycle` has the transitions."""

    PENDING = "pending"
    SENDING = "sending"
    UNKNOWN = "unknown"
    SENT = "sent"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DELIVERED = "delivered"


class Reason(StrEnum):
    """Why a message has its status: the closed list that docs/lifecycle.md documents."""

    QUEUED = "queued"  # accepted, and waits in the outbox or the topic
    SCHEDULED = "scheduled"  # waits for its send_at
    CLAIMED = "claimed"  # a channel process starts an attempt
    ACCEPTED = "accepted"  # the provider accepted it
    DELIVERED = "delivered"  # the provider reports that it arrived
    UNDELIVERED = "undelivered"  # the provider reports that it did not arrive
    REJECTED = "rejected"  # the provider refused it permanently
    INVALID_RECIPIENT = "invalid_recipient"  # the recipient does not exist or cannot be reached
    INVALID_CONTENT = "invalid_content"  # the message breaks a rule of its channel
    SUPPRESSED = "suppressed"  # the recipient is on a suppression list
    EXPIRED = "expired"  # expires_at passed before it could be sent
    RETRIES_EXHAUSTED = "retries_exhausted"  # every attempt ended in a temporary failure
    RATE_LIMITED = "rate_limited"  # the provider limits the rate; tried again later
    PROVIDER_ERROR = "provider_error"  # the provider failed; tried again later
    TIMEOUT = "timeout"  # no connection in time; nothing was sent; tried again later
    ACCOUNT_FAULT = "account_fault"  # the provider refused our account; tried again
    AMBIGUOUS = "ambiguous"  # a call was made, and its answer was lost
    UNDECODABLE = "undecodable"  # the bytes in the topic are not a message
    NO_PROVIDER = "no_provider"  # the channel has no provider for this message
    CANCELLED = "cancelled"  # withdrawn before anything was sent
    DUPLICATE = "duplicate"  # the same message again; nothing was sent twice
    RESENT = "resent"  # an operator requested another attempt
    RESOLVED = "resolved"  # an operator settled an unknown message
    NO_RECEIPT = "no_receipt"  # no receipt arrived within the time limit


class SuppressionReason(StrEnum):
    """Why a recipient is on the suppression list."""

    OPT_OUT = "opt_out"
    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    MANUAL = "manual"
