"""Copies of the database in a bucket or a folder, and the way back."""
