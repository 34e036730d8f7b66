"""Compares the answers to clients with the database, the API and the pods' journals."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from itertools import combinations

from tests.faults.journal import Delivery, overlaps
from tests.faults.load import ANSWER_WITHIN, Fate, Load, Sent
from tests.faults.records import Records, Row

REFUSALS = {429, *range(500, 600)}
Listed = dict[str, list[tuple[str, str]]]  # session → (message id, status) in the order of the API


@dataclass(frozen=True, slots=True)
class Evidence:
    load: Load
    records: Records
    listed: Listed
    deliveries: dict[str, list[Delivery]]


@dataclass(frozen=True, slots=True)
class Course:
    """``waiting``: messages without a result when the fault started.

    Seconds since then until it was over, until every message had its result, and until every session slept.
    """

    waiting: int
    over: float
    quiet: float
    asleep: float


def violations(evidence: Evidence) -> list[str]:
    """Return a line for every broken promise."""
    load, records = evidence.load, evidence.records
    by_text: dict[str, list[Row]] = {}
    for row in records.messages:
        by_text.setdefault(row.text, []).append(row)
    found = [wrong for sent in load.sent for wrong in _wrong_with(sent, by_text.get(sent.text, []))]
    found += [wrong for row in records.messages for wrong in _wrong_result(row, records.ends.get(row.id, []))]
    found += _wrong_listing(evidence)
    found += _wrong_order(evidence)
    for session, deliveries in evidence.deliveries.items():
        if count := overlaps(deliveries):
            found.append(f"{session}: two pods at work at once, {count} times")
    return found


def _wrong_with(sent: Sent, rows: list[Row]) -> list[str]:
    found = [f"{sent.text}: answered {status}" for status in sent.statuses if not _is_proper(status)]
    if sent.unanswered:
        found.append(f"{sent.text}: not answered for {ANSWER_WITHIN:g} s")
    if len(rows) > 1:
        found.append(f"{sent.text}: accepted {len(rows)} times")
    if sent.fate is Fate.REFUSED and rows:
        found.append(f"{sent.text}: rejected with {sent.statuses}, but accepted")
    if sent.fate is Fate.UNKNOWN and sent.key:
        found.append(f"{sent.text}: never acknowledged, for all its repeats: {sent.statuses}")
    if sent.fate is Fate.ACKNOWLEDGED:
        found += _wrong_acknowledgement(sent, rows)
    return found


def _is_proper(status: int) -> bool:
    return status in {200, 202} or status in REFUSALS


def _wrong_acknowledgement(sent: Sent, rows: list[Row]) -> list[str]:
    if [row.id for row in rows] != [sent.message_id]:
        return [f"{sent.text}: acknowledged as {sent.message_id}, stored as {[row.id for row in rows]}"]
    told, stored = sent.answer.get("pod_response"), rows[0].response
    if told is not None and (stored is None or told != json.loads(stored)):
        return [f"{sent.text}: the caller received {told}, stored is {stored}"]
    return []


def _wrong_result(row: Row, ends: list[int]) -> list[str]:
    if row.finished_at is None:
        return [f"{row.text}: has no result (attempt {row.attempt})"]
    found = []
    if len(ends) != 1:
        found.append(f"{row.text}: ended {len(ends)} times")
    if row.status != "processed":
        found.append(f"{row.text}: {row.status}: {row.error} (deaths {row.deaths})")
    elif json.loads(row.response or "{}") != {"reply": f"heard {row.text}", "message_id": row.id}:
        found.append(f"{row.text}: has the result {row.response}")
    return found


def _wrong_listing(evidence: Evidence) -> list[str]:
    stored: Listed = {session: [] for session in evidence.listed}
    for row in sorted(evidence.records.messages, key=lambda row: row.seq):
        stored[row.session].append((row.id, str(row.status)))
    return [
        f"{session}: the API lists {len(rows)} messages otherwise than the {len(stored[session])} stored"
        for session, rows in evidence.listed.items()
        if rows != stored[session]
    ]


def _wrong_order(evidence: Evidence) -> list[str]:
    """Check that a message sent after another was acknowledged has its result after it."""
    sessions: dict[str, list[Sent]] = {}
    for sent in evidence.load.sent:
        if sent.fate is Fate.ACKNOWLEDGED:
            sessions.setdefault(sent.session, []).append(sent)
    ends = evidence.records.ends
    found = []
    for messages in sessions.values():
        for first, second in combinations(sorted(messages, key=lambda sent: sent.at), 2):
            before, after = ends.get(first.message_id or ""), ends.get(second.message_id or "")
            if first.acknowledged_at < second.at and before and after and before[0] > after[0]:
                found.append(f"{second.text} has its result before {first.text}, acknowledged before it was sent")
    return found


def figures(evidence: Evidence, course: Course) -> dict[str, str]:
    """Return the figures by name."""
    load, rows = evidence.load, evidence.records.messages
    fates = Counter(sent.fate for sent in load.sent)
    ended = Counter(row.status for row in rows)
    reasons = Counter(row.error for row in rows if row.error)
    waits = [(row.finished_at - row.accepted_at) / 1e6 for row in rows if row.finished_at is not None]
    deliveries = [each for journal in evidence.deliveries.values() for each in journal]
    repeated = sum(sent.broken > 0 for sent in load.sent)
    known = sum(sent.broken > 0 and sent.fate is Fate.ACKNOWLEDGED for sent in load.sent)
    answers = ", ".join(f"{count} × {status}" for status, count in sorted(load.statuses().items()))
    return {
        "sent": str(len(load.sent)),
        "waiting when the fault started": str(course.waiting),
        "acknowledged": str(fates[Fate.ACKNOWLEDGED]),
        "refused": str(fates[Fate.REFUSED]),
        "unknown": f"{repeated}, {known} of them acknowledged when repeated",
        "answers": answers,
        "processed": str(ended["processed"]),
        "failed": f"{ended['failed']} {dict(reasons) or ''}".strip(),
        "redelivered": str(sum(row.attempt > 1 for row in rows)),
        "deliveries to pods": f"{len(deliveries)}, {sum(each.end is None for each in deliveries)} of them cut off",
        "pods": str(len({(each.session, each.pid) for each in deliveries})),
        "longest accept to result": f"{max(waits, default=0.0):.1f} s",
        "fault lasted": f"{course.over:.1f} s",
        "time until quiet": f"{course.quiet:.1f} s",
        "time until asleep": f"{course.asleep:.1f} s",
    }
