"""What an SMSC's codes mean, as a table: `command_status`, and the states of receipts.

The adapter's `Classifier` reads `CODES`. A status is looked up as `0x00000058`, a state as the word
that stands in a receipt. Statuses that depend on nothing but our table (the type of a number, the
service) are the account's fault: they would refuse every message alike. What an SMSC's own codes
(0x400 to 0x4FF) and reserved ones mean only its documents tell, and a provider's table may repeat
(`with_own`): else nothing was taken, the message is tried again while it may be, and the code is
counted.
"""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from consumers.sdk.error_codes import (
    ACCOUNT,
    CONTENT,
    INVALID_RECIPIENT,
    LIMITED,
    OPTED_OUT,
    REJECTED,
    SENDER,
    TRANSIENT,
    ErrorTable,
    Meaning,
)

# 5.1.3 of the specification. Some gateways count 0x50 and 0x51 as 0x4A and 0x4B, and say 0x67
# where there is no credit: https://smpp.io/cmd-response-table/
_STATUSES: tuple[tuple[int, str, Meaning], ...] = (
    # The recipient
    (0x0B, "ESME_RINVDSTADR", INVALID_RECIPIENT),
    # The content
    (0x01, "ESME_RINVMSGLEN", CONTENT),
    # The message
    (0x02, "ESME_RINVCMDLEN", REJECTED),
    (0x0C, "ESME_RINVMSGID", REJECTED),
    (0x43, "ESME_RINVESMCLASS", REJECTED),
    (0x61, "ESME_RINVSCHED", REJECTED),
    (0x62, "ESME_RINVEXPIRY", REJECTED),
    (0x63, "ESME_RINVDFTMSGID", REJECTED),
    (0x65, "ESME_RX_P_APPN", REJECTED),
    (0x66, "ESME_RX_R_APPN", REJECTED),
    (0xC0, "ESME_RINVOPTPARSTREAM", REJECTED),
    (0xC1, "ESME_ROPTPARNOTALLWD", REJECTED),
    (0xC2, "ESME_RINVPARLEN", REJECTED),
    (0xC3, "ESME_RMISSINGOPTPARAM", REJECTED),
    (0xC4, "ESME_RINVOPTPARAMVAL", REJECTED),
    # The sender
    (0x0A, "ESME_RINVSRCADR", SENDER),
    (0x48, "ESME_RINVSRCTON", SENDER),
    (0x49, "ESME_RINVSRCNPI", SENDER),
    # The account, and what of our table does not suit it
    (0x03, "ESME_RINVCMDID", ACCOUNT),
    (0x06, "ESME_RINVPRTFLG", ACCOUNT),
    (0x07, "ESME_RINVREGDLVFLG", ACCOUNT),
    (0x0D, "ESME_RBINDFAIL", ACCOUNT),
    (0x0E, "ESME_RINVPASWD", ACCOUNT),
    (0x0F, "ESME_RINVSYSID", ACCOUNT),
    (0x15, "ESME_RINVSERTYP", ACCOUNT),
    (0x4A, "ESME_RINVDSTTON", ACCOUNT),
    (0x4B, "ESME_RINVDSTNPI", ACCOUNT),
    (0x50, "ESME_RINVDSTTON", ACCOUNT),
    (0x51, "ESME_RINVDSTNPI", ACCOUNT),
    (0x53, "ESME_RINVSYSTYP", ACCOUNT),
    (0x54, "ESME_RINVREPFLAG", ACCOUNT),
    (0x67, "ESME_RQUERYFAIL", ACCOUNT),
    # The moment
    (0x04, "ESME_RINVBNDSTS", TRANSIENT),
    (0x05, "ESME_RALYBND", TRANSIENT),
    (0x08, "ESME_RSYSERR", TRANSIENT),
    (0x45, "ESME_RSUBMITFAIL", TRANSIENT),
    (0x64, "ESME_RX_T_APPN", TRANSIENT),
    (0xFE, "ESME_RDELIVERYFAILURE", TRANSIENT),
    (0xFF, "ESME_RUNKNOWNERR", TRANSIENT),
    # Our haste
    (0x14, "ESME_RMSGQFUL", LIMITED),
    (0x58, "ESME_RTHROTTLED", LIMITED),
)

# Of receipts, appendix B. What may still change, or is not known there, is no receipt.
DELIVERED = "DELIVRD"
FAILED = MappingProxyType(
    {"EXPIRED": TRANSIENT, "DELETED": REJECTED, "UNDELIV": TRANSIENT, "REJECTD": REJECTED}
)
STATES = MappingProxyType(  # message_state, 5.2.28
    {
        1: "ENROUTE",
        2: DELIVERED,
        3: "EXPIRED",
        4: "DELETED",
        5: "UNDELIV",
        6: "ACCEPTD",
        7: "UNKNOWN",
        8: "REJECTD",
    }
)


def code_of(status: int) -> str:
    """A status as the table, and events, have it."""
    return f"0x{status:08X}"


NAMES = MappingProxyType({status: name for status, name, _ in _STATUSES})
UNLISTED = 0  # stands where another table has an HTTP status

CODES = ErrorTable(
    source="https://smpp.org/SMPP_v3_4_Issue1_2.pdf",
    codes={code_of(status): meaning for status, _, meaning in _STATUSES} | dict(FAILED),
    statuses={UNLISTED: TRANSIENT},
)

# What a table may say that a code means.
MEANINGS = MappingProxyType(
    {
        "rejected": REJECTED,
        "invalid_recipient": INVALID_RECIPIENT,
        "invalid_content": CONTENT,
        "suppressed": OPTED_OUT,
        "sender": SENDER,
        "account": ACCOUNT,
        "transient": TRANSIENT,
        "rate_limited": LIMITED,
    }
)


def with_own(meanings: Mapping[int, Meaning]) -> ErrorTable:
    """The table with what one SMSC means by some statuses, its own and others."""
    own = {code_of(status): meaning for status, meaning in meanings.items()}
    return replace(CODES, codes={**CODES.codes, **own})
