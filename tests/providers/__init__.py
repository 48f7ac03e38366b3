"""The adapters: one contract over all of them, and what is each one's own."""
