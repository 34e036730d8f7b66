"""The one predicate of rights. A statement that works for a caller has it in its own WHERE clause."""

from __future__ import annotations

from typing import assert_never

from session_manager.domain.access import Access, Everything, Nothing, OneSession, OwnedBy, Right
from session_manager.domain.errors import Forbidden
from session_manager.store.transactions.base import Statement

_OF_A_TURN = frozenset({Right.READ, Right.WRITE})


def may(access: Access, right: Right, number: int) -> tuple[str, tuple[object, ...]]:
    """Return the condition on ``session``, and its parameters, which begin at ``$number``."""
    match access:
        case Everything():
            return "1 = 1", ()
        case OwnedBy(user):
            return f"session.user_id = ${number}", (user,)
        case OneSession(uuid, attempt) if right in _OF_A_TURN:
            turn = f"turn.id = ${number + 1} AND turn.session = ${number} AND turn.attempt = ${number + 2}"
            is_open = f"EXISTS (SELECT 1 FROM message AS turn WHERE {turn} AND turn.finished_at IS NULL)"  # noqa: S608
            return f"session.uuid = ${number} AND {is_open}", (uuid, *attempt)
        case OneSession() | Nothing():
            return "1 = 0", ()
        case _:
            assert_never(access)


def restricted(sql: str, access: Access, right: Right, *params: object) -> Statement:
    """Return the statement restricted to sessions on which ``access`` has ``right``.

    ``sql`` must name the table ``session`` and end in its WHERE clause.
    """
    condition, more = may(access, right, len(params) + 1)
    return f"{sql} AND {condition}", (*params, *more)


def reject_turn(access: Access, uuid: str | None) -> None:
    """Raise Forbidden for the access of a turn that does not reach the session ``uuid``."""
    if isinstance(access, OneSession):
        another = access.uuid != uuid
        raise Forbidden("this token is for another session" if another else "the turn of this token has ended")
