"""Chaos: inject faults, in the order of a seed, into a whole system under steady traffic.

`make chaos SEED=n` runs `python -m tests.chaos`. `world` starts the services as processes and
breaks them. `traffic` sends messages through the API and records the responses. `front_door`
produces to a topic directly. `provider` receives the calls and records each in a journal. `checker`
compares these records with the database. It shares no code with the product.
"""
