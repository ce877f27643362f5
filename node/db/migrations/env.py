"""Alembic's entry: run the migrations on the engine that node.db.migrate passes in."""

from alembic import context

from node.db.tables import metadata

_engine = context.config.attributes["engine"]

with _engine.connect().execution_options(bitewing_write=True) as _conn:
    context.configure(
        connection=_conn,
        target_metadata=metadata,
        render_as_batch=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()
    _conn.commit()
