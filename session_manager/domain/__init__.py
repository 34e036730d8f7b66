"""The pure core: what a session, a message and a status are. No I/O, no framework, no clock of its own."""
