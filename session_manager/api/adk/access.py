"""Who may see what on ADK's routes, where the user stands in the path.

A caller that acts for one user gets, for any other, the answers of a user that nobody has heard of. A service without
an acting user may act for any. The token of a turn opens its own session, while its attempt is open.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from fastapi import Depends, Request

from session_manager.api.limits import Check
from session_manager.domain.adk.model import APP, AdkKey, State
from session_manager.domain.errors import Forbidden, InvalidInput, NotFound
from session_manager.people.identity import LOCAL, Actor, valid_user_id
from session_manager.wiring.services import Services

MAX_LENGTH = 128  # characters: of an id, an app or a user in PostgreSQL's columns


class Asked(NamedTuple):
    """App and user of the path. ``known``: there may be sessions of theirs that this caller may see.

    ``service``: the caller is one that keeps sessions here, or a pod, and no user.
    """

    app: str
    user_id: str
    actor: Actor
    known: bool
    service: bool

    def key(self, session_id: str) -> AdkKey:
        """NotFound when the caller does not act for this user, and for what no session can be called."""
        if not self.known or "\0" in session_id:
            raise NotFound
        return AdkKey(self.app, self.user_id, session_id)

    def new_key(self, session_id: str) -> AdkKey:
        """Of a session to be made. NotFound as for ``key``; InvalidInput names what is wrong."""
        key = self.key(session_id)
        if valid_user_id(key.user_id) != key.user_id:
            raise InvalidInput("user: must not begin or end with a space", "user")
        for name, part in (("app", key.app), ("sessionId", key.id)):
            if len(part) > MAX_LENGTH or not part.isprintable():
                raise InvalidInput(f"{name}: must be at most {MAX_LENGTH} printable characters", name)
        return key

    def check_shared(self, state: State | None) -> None:
        """Forbidden for a user who would change what other users of the app read."""
        if not self.service and any(name.startswith(APP) for name in state or ()):
            raise Forbidden("app: is shared by all users of the app, and is changed by services and agents only")


def asked(request: Request, app_name: str, user_id: str) -> Asked:
    """Before anything is counted: a service's limits are those of the user whom it names."""
    actor: Actor = request.scope["actor"]
    service = actor.user is None
    known = (service or actor.user == user_id) and "\0" not in app_name + user_id
    if service and actor.caller != LOCAL and actor.grant is None:
        actor = request.scope["actor"] = Actor(actor.caller, user_id, actor.address)
    return Asked(app_name, user_id, actor, known, service)


async def _asked(request: Request, app_name: str, user_id: str) -> Asked:
    return asked(request, app_name, user_id)  # a plain function would be called in a thread


Access = Annotated[Asked, Depends(_asked)]


def counted(limit: Check) -> list[Any]:
    """The dependencies of a route: who asks is known before it is counted."""
    return [Depends(_asked), Depends(limit)]


async def located(services: Services, access: Asked, session_id: str) -> AdkKey:
    """Return the key of an existing session, whose id may lack the outer spaces of ``session_id``. Raises NotFound."""
    key = access.key(session_id)
    return key._replace(id=(await services.store.adk_record(key)).adk_id)
