"""The roof of the house: the command line, the application and the one-machine stack.

`cli`, `app`, `services`, `stack` and `demo` put the services together. `comms.platform` is what
every service runs on; it knows nothing of the services.
"""
