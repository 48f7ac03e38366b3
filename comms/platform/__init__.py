"""The platform that every service runs on: settings, Kafka, database, metrics, health, logs, keys.

Services import it. It imports only `schemas`.
"""
