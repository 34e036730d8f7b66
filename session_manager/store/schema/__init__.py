"""The schema as numbered migrations, which both engines share."""
