"""The store compared with google-adk's own session services, on the same machine in the same run."""
