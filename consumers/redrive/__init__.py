"""What people do about messages that ended, or that nobody knows about: send again, and settle.

The application mounts `api`. A wish for another attempt becomes a row of the deferred queue with a
nonce of its own (`wishes`), for the channel to take up; what a person knows about a lost answer
becomes a status event (`resolving`). `where` and `selection` find the messages of a filter.
"""
