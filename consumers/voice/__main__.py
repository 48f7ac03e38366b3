"""`python -m consumers.voice`: the channel's service, by way of the one composition root; with
`receipts`, the endpoint for what its providers say later.
"""

from comms.cli import run_channel

run_channel("voice")
