"""Receipts: what a provider reports about a message after it accepted the message.

Receipts arrive by webhook, over a provider connection, or by polling. The processor matches each
one to its attempt, stores it and publishes the status event.
"""
