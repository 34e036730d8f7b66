"""ADK's sessions and events: their model, their two spellings, and the rules for them."""
