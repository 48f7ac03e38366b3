"""`python -m producer`: the application that serves the HTTP API, as `comms run producer`."""

from comms.cli import main

main(["run", "producer"])
