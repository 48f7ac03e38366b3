"""`python -m consumers.sms`: the channel's service, by way of the one composition root."""

from comms.cli import run_service

run_service("sms")
