"""Remembering: status events become history, state and counts; queries and the page read them."""
