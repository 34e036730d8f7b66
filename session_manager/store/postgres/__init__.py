"""The store in PostgreSQL, through a pool of asyncpg connections."""
