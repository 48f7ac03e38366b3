"""The migrations: one module for each step, applied in order by `comms.platform.upgrading.upgrade`.

Alembic keeps the version. The steps are written in SQL, because the constraints of the tables hold
the delivery promises.
"""
