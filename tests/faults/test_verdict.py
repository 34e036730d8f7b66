"""The verdict finds each broken promise, and reports no failure for a run without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from tests.faults.journal import Delivery
from tests.faults.load import Fate, Load, Sent
from tests.faults.records import Records, Row
from tests.faults.verdict import Evidence, violations


@dataclass
class Run:
    """Return two messages of one session, the second sent after the first was acknowledged, and a rejected one."""

    sent: list[Sent] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    ends: dict[str, list[int]] = field(default_factory=dict)
    deliveries: list[Delivery] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number, text in enumerate(("first", "second"), 1):
            mid = f"id-{text}"
            answer = {"message_id": mid, "pod_response": {"reply": f"heard {text}", "message_id": mid}}
            acknowledged: dict[str, Any] = {
                "fate": Fate.ACKNOWLEDGED,
                "statuses": [200],
                "message_id": mid,
                "answer": answer,
            }
            self.sent.append(Sent("s", text, text, None, None, at=number, acknowledged_at=number + 0.5, **acknowledged))
            response = json.dumps(answer["pod_response"])
            self.rows.append(Row(mid, "s", number, text, "processed", response, None, 1, 0, number, number + 1))
            self.ends[mid] = [number]
            self.deliveries.append(Delivery("s", mid, 1, 4000, number, number + 0.1))
        self.sent.append(Sent("s", "third", "third", None, None, fate=Fate.REFUSED, statuses=[503]))

    def verdict(self) -> list[str]:
        load = Load(list, ["s"], 0)
        load.sent = self.sent
        listed = {"s": [(row.id, str(row.status)) for row in self.rows]}
        return violations(Evidence(load, Records(self.rows, self.ends), listed, {"s": self.deliveries}))


def lose(run: Run) -> None:
    del run.rows[1]


def double(run: Run) -> None:
    run.rows.append(replace(run.rows[1], id="another", seq=3))
    run.ends["another"] = [3]


def accept_the_refused(run: Run) -> None:
    run.rows.append(Row("id-third", "s", 3, "third", "failed", None, "cancelled", 1, 0, 3, 4))
    run.ends["id-third"] = [3]


def swap(run: Run) -> None:
    run.ends["id-first"], run.ends["id-second"] = run.ends["id-second"], run.ends["id-first"]


def leave_waiting(run: Run) -> None:
    run.rows[1] = replace(run.rows[1], finished_at=None, status=None, response=None)


def end_twice(run: Run) -> None:
    run.ends["id-first"] = [1, 3]


def fail(run: Run) -> None:
    run.rows[0] = replace(run.rows[0], status="failed", error="the pod died 3 times", response=None)


def answer_for_another(run: Run) -> None:
    run.rows[0] = replace(run.rows[0], response=run.rows[1].response)


def tell_something_else(run: Run) -> None:
    run.sent[0].answer["pod_response"] = {"reply": "heard nothing"}


def refuse_wrongly(run: Run) -> None:
    run.sent[2].statuses = [404]


def keep_in_the_dark(run: Run) -> None:
    run.sent[2].fate = Fate.UNKNOWN


def never_answer(run: Run) -> None:
    run.sent[0].unanswered = 1


def run_two_pods(run: Run) -> None:
    run.deliveries[0].end = 2.5
    run.deliveries[1].pid = 4001


def test_a_faultless_run():
    assert Run().verdict() == []


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lose, "second: acknowledged as id-second, stored as []"),
        (double, "second: accepted 2 times"),
        (accept_the_refused, "third: rejected with [503], but accepted"),
        (swap, "second has its result before first"),
        (leave_waiting, "second: has no result"),
        (end_twice, "first: ended 2 times"),
        (fail, "first: failed: the pod died 3 times"),
        (answer_for_another, "first: has the result"),
        (tell_something_else, "first: the caller received"),
        (refuse_wrongly, "third: answered 404"),
        (keep_in_the_dark, "third: never acknowledged"),
        (never_answer, "first: not answered"),
        (run_two_pods, "two pods at work at once"),
    ],
)
def test_a_broken_promise_is_found(spoil: Callable[[Run], None], said: str):
    run = Run()
    spoil(run)
    assert any(said in each for each in run.verdict()), run.verdict()
