"""The migrations: one module a step, applied in order by `comms.platform.upgrading.upgrade`.

Alembic keeps the version. The steps are SQL, because the tables hold the promises and SQL states
them best.
"""
