"""The user in the path of ADK's routes, and that user's sessions.

The gate answers a caller that may not act for this user as if the user were unknown.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from fastapi import Depends

from session_manager.api.call import Call
from session_manager.domain.access import Caller
from session_manager.domain.adk.model import APP, AdkKey, State
from session_manager.domain.errors import Forbidden, InvalidInput, NotFound
from session_manager.people.identity import valid_user_id

MAX_LENGTH = 128  # characters of an id, an app or a user in PostgreSQL's columns


class AdkUser(NamedTuple):
    """A user of an app, for whom the caller acts."""

    app: str
    id: str

    def key(self, session_id: str) -> AdkKey:
        """Return the key of a session. Raises NotFound for an id that no session can have."""
        if "\0" in session_id:
            raise NotFound
        return AdkKey(self.app, self.id, session_id)

    def new_key(self, session_id: str) -> AdkKey:
        """Return the key of a session to be made. Raises InvalidInput, which names the field."""
        key = self.key(session_id)
        if valid_user_id(key.user_id) != key.user_id:
            raise InvalidInput("user: must not begin or end with a space", "user")
        for name, part in (("app", key.app), ("sessionId", key.id)):
            if len(part) > MAX_LENGTH or not part.isprintable():
                raise InvalidInput(f"{name}: must be at most {MAX_LENGTH} printable characters", name)
        return key


async def _user(app_name: str, user_id: str) -> AdkUser:
    if "\0" in app_name + user_id:
        raise NotFound
    return AdkUser(app_name, user_id)


User = Annotated[AdkUser, Depends(_user)]


def check_shared(caller: Caller, state: State | None) -> None:
    """Raise Forbidden for a user that would change what other users of the app read."""
    if not caller.trusted and any(name.startswith(APP) for name in state or ()):
        raise Forbidden("app: is shared by all users of the app, and is changed by services and agents only")


async def located(call: Call, user: AdkUser, session_id: str) -> AdkKey:
    """Return the key of an existing session, whose id may lack the outer spaces of ``session_id``. Raises NotFound."""
    key = user.key(session_id)
    return key._replace(id=(await call.services.store.adk_record(key)).adk_id)
