"""Maintenance of whole databases by hand: copy, merge, count. It walks the tables of the code's schema."""
