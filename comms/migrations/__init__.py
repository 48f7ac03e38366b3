"""The database's history: one module a step, applied in order by `comms.upgrading.upgrade`.

Alembic keeps count; the steps themselves are SQL, because the tables are where the promises are
kept and SQL says them best.
"""
