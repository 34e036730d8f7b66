"""What an agent is told beside the message."""

from __future__ import annotations


class Context:
    """``attempt`` is 1, or more when the message was given to a pod before. ``home``: the folder in HOME.

    ``token`` reads this session and appends to it while this turn runs: the ``X-Session-Token`` of such requests.
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
