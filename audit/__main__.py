"""`python -m audit`: the service that records status events, by the one composition root."""

from comms.cli import run_service

run_service("audit")
