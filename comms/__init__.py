"""The outermost layer: the command line, the HTTP application and the one-machine stack.

`cli`, `app`, `services`, `stack` and `demo` put the services together. `comms.platform` is what
every service is built on; it imports none of them.
"""
