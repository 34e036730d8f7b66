"""Events that a pod appends with the token of its turn."""

from __future__ import annotations

from collections.abc import Sequence

from session_manager.aio.beside import by_size
from session_manager.domain.access import EVERYTHING, PodTurn
from session_manager.domain.adk import pod_events as rules
from session_manager.domain.errors import Forbidden
from session_manager.domain.message import Message
from session_manager.domain.session_class import AppState, class_of_session
from session_manager.domain.values import Json
from session_manager.wiring.services import Services


async def pod_events(services: Services, caller: PodTurn, events: Sequence[Json], now: float) -> list[Json]:
    """Return results of ``EVENT.validate`` as the pod may write them. Raises Forbidden.

    The event by the user, which ADK's runner appends first, becomes what the message of the turn says. There is only
    one, since each would have all of the message.
    """
    by_user = [rules.speaks_for_user(event) for event in events]
    changes = any(rules.changes_app(event) for event, users in zip(events, by_user, strict=True) if not users)
    writes = changes and await _writes_app(services, caller.session)
    rights = rules.TurnRights(caller.attempt.message_id, caller.began, app_state=writes)
    if not any(by_user):
        return [rules.pod_event(event, rights, now) for event in events]
    if sum(by_user) > 1:
        raise Forbidden("events: only one of them may be the user's")
    message = await services.store.get_message(caller.session, caller.attempt.message_id, EVERYTHING)
    return await by_size(len(message.payload or ""), _with_users_event, events, by_user, message, rights, now)


def _with_users_event(
    events: Sequence[Json], by_user: Sequence[bool], message: Message, rights: rules.TurnRights, now: float
) -> list[Json]:
    return [
        rules.users_event(event, message, rights, now) if users else rules.pod_event(event, rights, now)
        for event, users in zip(events, by_user, strict=True)
    ]


async def _writes_app(services: Services, session: str) -> bool:
    record = await services.store.get_session(session, EVERYTHING)
    return class_of_session(services.classes, record.class_name).app_state is AppState.WRITE
