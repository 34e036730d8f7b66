"""One writer of a database and one machine with pods: leases and what follows from them."""
