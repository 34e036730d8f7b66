"""Who calls, and the credentials that say so."""
