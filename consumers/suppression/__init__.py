"""Who must not be reached, by tenant and channel.

People and receipts add recipients (`api`, `consumers.desk`); the ledger looks each message's
recipient up as it is claimed, and a suppressed one is refused without a call.
"""

from consumers.suppression.recipients import SuppressionReason, normal

__all__ = ["SuppressionReason", "normal"]
