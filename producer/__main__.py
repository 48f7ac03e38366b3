"""`python -m producer`: the HTTP API's service, by way of the one composition root."""

from comms.cli import run_service

run_service("producer")
