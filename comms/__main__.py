"""`python -m comms`: the command line."""

from comms.cli import main

main()
