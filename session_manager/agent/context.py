"""The facts that an agent receives with a message."""

from __future__ import annotations


class Context:
    """``attempt`` is more than 1 if an earlier pod received the message. ``home`` is the folder in HOME.

    ``token`` allows reading this session and appending to it while the turn runs. Send it as ``X-Session-Token``.
    """

    __slots__ = ("attempt", "home", "message_id", "session_id", "token", "user_id")

    def __init__(
        self, session_id: str, message_id: str, user_id: str, attempt: int, home: str, token: str = ""
    ) -> None:
        self.session_id = session_id
        self.message_id = message_id
        self.user_id = user_id
        self.attempt = attempt
        self.home = home
        self.token = token
