"""A Redis in Python, for a laptop without redis-server: ``python -m session_manager.activity.embedded``.

The engine is fakeredis with Lua, and this package adds what a server needs: a port on loopback, a password, pipelining,
fairness between connections, and a snapshot on disk.  It is one process with one event loop, like Redis itself.  It
serves the commands of this project and of ordinary clients, without ACL users, replication and MONITOR.
"""
