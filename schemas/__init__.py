"""The contract between services: what may stand in a topic, and what it means.

Producers, consumers and the audit service import this package to build, encode and decode the
records that flow between them; services in other languages read the same contract from the `.avsc`
files beside this one. It imports nothing of ours, so it can be lifted out and used alone.
"""
