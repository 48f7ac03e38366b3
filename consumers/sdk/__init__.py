"""The provider SDK: what the author of a provider adapter needs, and what the pipeline calls.

It imports only itself, `schemas` and `comms.platform`.
"""
