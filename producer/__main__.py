"""`python -m producer`: runs the service of the HTTP API, as `comms run app` does."""

from comms.cli import run_service

run_service("producer")
