"""ADK's words for a conversation: sessions, state, events, and their JSON forms. Pure, and without google-adk."""
