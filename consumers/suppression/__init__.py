"""Suppression: recipients who must not be reached, by tenant and channel.

Users and receipts add recipients (`api`, `consumers.receipts.processor`). The ledger looks up each
recipient while it claims a message, and a suppressed recipient is refused without a call.
"""

from consumers.suppression.recipients import normal

__all__ = ["normal"]
