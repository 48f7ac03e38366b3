"""Chaos: the system as separate processes under steady traffic, while a seeded schedule breaks it.

`make chaos SEED=n` runs `python -m tests.chaos`. `world` starts and breaks processes, `traffic`
sends through the API and keeps its answers, `provider` is the way out and journals every call,
`checker` compares the two with what the store says, and shares no code with the product.
"""
