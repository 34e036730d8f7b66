"""The pure core: sessions, messages and statuses. It does no I/O, uses no framework, and reads no clock."""
