"""Redrive: what an operator does about a message that ended or is unknown, resend it or settle it.

The application mounts `api`. A resend request becomes a row of the deferred queue with a nonce of
its own (`requests`), which the channel takes up. What a person knows about a call whose answer was
lost becomes a status event (`resolving`). `where` parses a filter, and `selection` finds its
messages.
"""
