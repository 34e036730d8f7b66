"""The doors that ADK's clients know: ``/adk``, and the same routes of sessions and turns at the root."""
