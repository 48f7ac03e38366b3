"""What one provider has in common on several channels: its account, its errors, its signature.

The adapters of the channels, which know nothing of one another, build on the modules here.
"""
