"""Plumbing that every service shares, the command line, and the stack of one machine.

`settings`, `database`, `kafka`, `metrics`, `health`, `logs`, `keys`, `auth` and `problems` know
nothing of the services. `cli`, `app` and `stack` stand above them: they put the services together.
"""
