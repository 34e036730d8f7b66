"""Hot facts in Redis: inboxes, turn leases, awake deadlines, pod addresses, live feeds."""
