"""What each kind of caller may reach, how it is limited, and whose its idempotency keys are."""

from __future__ import annotations

import pytest

from session_manager.domain.access import (
    EVERYTHING,
    NOTHING,
    Anonymous,
    Caller,
    Local,
    OneSession,
    OwnedBy,
    Person,
    PodTurn,
    Service,
)
from session_manager.domain.message import Attempt

LOCAL, ACTING_LOCAL = Local("local", "1.2.3.4"), Local("local", "1.2.3.4", "ada")
SERVICE, ACTING = Service("web", "1.2.3.4"), Service("web", "1.2.3.4", "ada")
PERSON, POD, ANONYMOUS = (
    Person("app", "1.2.3.4", "ada"),
    PodTurn("s", Attempt("m", 1), 0.0, "1.2.3.4"),
    Anonymous("1.2.3.4"),
)


@pytest.mark.parametrize(
    ("caller", "access", "limit_key", "admin", "trusted"),
    [
        (LOCAL, EVERYTHING, "local|1.2.3.4", True, True),
        (ACTING_LOCAL, OwnedBy("ada"), "local|user|ada", False, False),
        (SERVICE, EVERYTHING, "web|s", True, True),
        (ACTING, OwnedBy("ada"), "web|user|ada", False, False),
        (PERSON, OwnedBy("ada"), "app|user|ada", False, False),
        (POD, OneSession("s", Attempt("m", 1)), "pod|s", False, True),
        (ANONYMOUS, NOTHING, "anonymous|1.2.3.4", False, False),
    ],
    ids=repr,
)
def test_each_kind(caller: Caller, access: object, limit_key: str, admin: bool, trusted: bool):
    assert (caller.access, caller.limit_key("s"), caller.admin, caller.trusted) == (access, limit_key, admin, trusted)


@pytest.mark.parametrize(
    ("caller", "stored"),
    [(LOCAL, "local"), (ACTING_LOCAL, "local|ada"), (SERVICE, "web"), (ACTING, "web|ada"), (PERSON, "app|ada")],
    ids=repr,
)
def test_idempotency_keys_are_stored_under_the_same_names_as_ever(caller: Local | Service | Person, stored: str):
    assert caller.idempotency_caller == stored


def test_a_service_acts_for_the_user_of_each_request():
    assert SERVICE.names_users
    assert SERVICE.acting_for("ada") == ACTING
    for caller in (LOCAL, ACTING_LOCAL, ACTING, PERSON, POD, ANONYMOUS):
        assert not caller.names_users
        assert caller.acting_for("eve") is caller


def test_who_may_act_for_another_user():
    assert [each for each in (LOCAL, SERVICE, POD) if not each.may_act_for("eve")] == []
    assert [each for each in (ACTING_LOCAL, ACTING, PERSON, ANONYMOUS) if each.may_act_for("eve")] == []
    assert PERSON.may_act_for("ada")
