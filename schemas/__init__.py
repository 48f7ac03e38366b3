"""The contract between services: the records in the topics, and what they mean.

Producers, consumers and the audit service import this package to build, encode and decode the
records that they exchange. Services in other languages read the same contract from the `.avsc`
files in this folder. The package imports no other package of this repository, so it can be used
alone.
"""
