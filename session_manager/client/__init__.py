"""A small synchronous client of the HTTP API.

::

    client = Client("http://127.0.0.1:8080")
    session = client.create("ada")["uuid"]
    print(client.chat(session, "Hello", wait=60)["pod_response"])

Answers are the JSON objects that the API documents at ``/docs``. Every error is a ``ClientError``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Self
from urllib.parse import quote, urlsplit
from uuid import uuid4

import requests

Json = dict[str, Any]

DEFAULT_URL = "http://127.0.0.1:8080"
CONNECT_TIMEOUT = 5.0  # seconds
ANSWER_TIMEOUT = 60.0  # the front door answers a turn after half of that at the latest
STREAM_TIMEOUT = 30.0  # an open stream sends something every few seconds
RESUME_TRIES = 5
RESUME_PAUSE = 1.0
PAGE = 500
LOOPBACK = ("localhost", "127.0.0.1", "::1")
ENDED = ("turn.processed", "turn.failed")


class ClientError(Exception):
    """The call failed. ``status`` is the HTTP status, ``retry_after`` the seconds to wait if the server said so.

    ``type`` is that of the problem document; ``urn:session-manager:quota-exceeded`` is one.
    """

    def __init__(
        self, detail: str, status: int | None = None, retry_after: float | None = None, type_: str = "about:blank"
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.status = status
        self.retry_after = retry_after
        self.type = type_


class Unreachable(ClientError):
    """There was no answer, or only a part of it. The server may have received the call."""


class InvalidRequest(ClientError):
    """The address, key or user is invalid, so that nothing was sent."""


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event. Only recorded events have an ``id``, after which a feed resumes; ``data`` is its JSON."""

    kind: str
    data: Json
    id: str | None = None

    @property
    def number(self) -> int | None:
        """The place of a recorded event in its session, from 1."""
        return int(self.id.partition("-")[0]) if self.id else None


class Client:
    """Calls one front door. ``key`` is a service's or a user's; with a service key, ``user`` is the user to act for.

    May be used as a context manager.
    """

    def __init__(self, url: str = DEFAULT_URL, key: str | None = None, user: str | None = None) -> None:
        self._url = url.rstrip("/")
        self._http = requests.Session()
        # A proxy from the environment cannot reach the loopback of this machine.
        self._http.trust_env = urlsplit(url).hostname not in LOOPBACK
        if key:
            # As a hook, so that requests does not replace it with an entry of ~/.netrc.
            self._http.auth = partial(_authorise, f"Bearer {key}")
        if user:
            self._http.headers["X-User-Id"] = user.encode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # -- sessions --------------------------------------------------------------------------------------------------

    def create(self, user_id: str, class_name: str = "default", name: str | None = None) -> Json:
        body = {"user_id": user_id, "class": class_name, **({"name": name} if name else {})}
        return self._json("POST", "/session/create", body)

    def get(self, session: str) -> Json:
        return self._json("GET", f"/session/{_part(session)}")

    def list(self, status: str | None = None, user_id: str | None = None) -> Iterator[Json]:
        """Yield every session that this caller may see, newest first; expired ones only with their status."""
        return self._rows("/sessions", "sessions", {"status": status, "user_id": user_id})

    def page(self, *, status: str | None = None, limit: int = 50, cursor: str | None = None) -> Json:
        """Return one page of ``list``: ``{total, sessions, next_cursor}``, with 500 sessions at most."""
        return self._json("GET", "/sessions", params={"status": status, "limit": limit, "cursor": cursor})

    def rename(self, session: str, name: str | None) -> Json:
        return self._json("PATCH", f"/session/{_part(session)}", {"name": name})

    def wake(self, session: str, keep_awake: float = 0) -> Json:
        """Start the pod, and keep it awake for at least ``keep_awake`` seconds (an hour at most)."""
        return self._json("POST", f"/session/{_part(session)}/wake", {"keep_awake_seconds": keep_awake})

    def sleep(self, session: str, *, when_idle: bool = False) -> Json:
        """Stop the pod. Raises ClientError with status 409 while a turn runs or waits, unless ``when_idle``."""
        when = {"when": "idle" if when_idle else "now"}
        return self._json("POST", f"/session/{_part(session)}/sleep", params=when)

    def delete(self, session: str) -> Json:
        return self._json("DELETE", f"/session/{_part(session)}")

    def logs(self, session: str, tail: int = 200) -> str:
        """Return the last lines that the session's pods printed."""
        return self._call("GET", f"/session/{_part(session)}/logs", params={"tail": tail}).text

    def events(self, session: str, after: str | int = 0) -> Iterator[Event | None]:
        """Yield the events after the one with the id ``after``, and None as a keep-alive.

        Ends with the session or the server. ``feed.reset`` means that the database was replaced, by a restore for
        example: forget the earlier events, all that there are now follow.
        """
        return self._events("GET", f"/session/{_part(session)}/events", params={"after": after})

    # -- messages --------------------------------------------------------------------------------------------------

    def chat(
        self, session: str, message: str, *, wait: float | None = None, idempotency_key: str | None = None
    ) -> Json:
        """Send a message. ``wait``: seconds (300 at most) to wait for the result of a message that is queued.

        After ``Unreachable``, call again with the same ``idempotency_key``: this never creates a second message.
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid4())}
        if wait is not None:
            headers["Prefer"] = f"wait={round(wait)}"
        timeout = ANSWER_TIMEOUT + (wait or 0)
        path = f"/session/{_part(session)}/chat"
        return self._json("POST", path, {"message": message}, headers=headers, timeout=timeout)

    def stream(self, session: str, message: str, *, idempotency_key: str | None = None) -> Iterator[Event | None]:
        """Send a message and yield the events of its turn, the last being ``turn.processed`` or ``turn.failed``.

        A broken stream is resumed: with its key it is the same message. None is a keep-alive.
        """
        headers = {"Idempotency-Key": idempotency_key or str(uuid4()), "Accept": "text/event-stream"}
        path = f"/session/{_part(session)}/chat"
        accepted, tries = False, RESUME_TRIES
        while True:
            try:
                for number, event in enumerate(self._events("POST", path, {"message": message}, headers=headers)):
                    accepted = True
                    if number:  # more than the first event of every stream
                        tries = RESUME_TRIES
                    yield event
                    if event is not None and event.kind in ENDED:
                        return
                raise Unreachable("the stream ended before the turn did")
            except ClientError as error:
                tries -= 1
                if not accepted or not tries or not (isinstance(error, Unreachable) or error.status in (503, 504)):
                    raise
                time.sleep(RESUME_PAUSE)

    def messages(self, session: str) -> Iterator[Json]:
        """Yield the messages of a session with their results, oldest first."""
        return self._rows(f"/session/{_part(session)}/messages", "messages", {})

    def message(self, session: str, message_id: str) -> Json:
        return self._json("GET", f"/session/{_part(session)}/messages/{_part(message_id)}")

    def cancel(self, session: str, message_id: str) -> Json:
        """Cancel a message that has no result yet. Raises ClientError with status 409 if it has one."""
        return self._json("POST", f"/session/{_part(session)}/messages/{_part(message_id)}/cancel")

    # -- HTTP ------------------------------------------------------------------------------------------------------

    def health(self) -> Json:
        """Return the health of each part. Raises ClientError with status 503 if one is unhealthy."""
        return self._json("GET", "/health")

    def _rows(self, path: str, field: str, filters: Json) -> Iterator[Json]:
        params = {"limit": PAGE, **filters}
        while True:
            page = self._json("GET", path, params=params)
            yield from page[field]
            if page["next_cursor"] is None:
                return
            params["cursor"] = page["next_cursor"]

    def _events(self, method: str, path: str, body: Json | None = None, **options: Any) -> Iterator[Event | None]:
        with self._call(method, path, body, stream=True, **options) as answer:
            yield from _events(answer)

    def _json(self, method: str, path: str, body: Json | None = None, **options: Any) -> Json:
        try:
            answer = self._call(method, path, body, **options).json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ClientError("the server that answered is not a Session Manager")
        return answer

    def _call(
        self, method: str, path: str, body: Json | None = None, *, timeout: float = ANSWER_TIMEOUT, **options: Any
    ) -> requests.Response:
        patience = (CONNECT_TIMEOUT, STREAM_TIMEOUT if options.get("stream") else timeout)
        try:
            answer = self._http.request(
                method, self._url + path, json=body, timeout=patience, allow_redirects=False, **options
            )
        except requests.Timeout:
            raise Unreachable(f"{self._url} did not answer in time") from None
        except requests.ConnectionError:
            raise Unreachable(f"cannot reach {self._url}") from None
        except (requests.RequestException, ValueError):
            # The text of these errors may quote a header, and with it the key.
            raise InvalidRequest(f"invalid address, key or user for {self._url}") from None
        if answer.status_code >= 300:
            with answer:
                raise _error(answer)
        return answer


def _authorise(credential: str, request: requests.PreparedRequest) -> requests.PreparedRequest:
    request.headers["Authorization"] = credential
    return request


def _part(value: str) -> str:
    """Quote a value as one segment of a path."""
    return quote(value, safe="")


def _error(answer: requests.Response) -> ClientError:
    try:
        problem = answer.json()
        detail, kind = str(problem["detail"]), str(problem.get("type"))
    except (ValueError, KeyError, TypeError, AttributeError, requests.RequestException):
        detail, kind = f"the server answered {answer.status_code} {answer.reason}", "about:blank"
    seconds = answer.headers.get("Retry-After", "")
    return ClientError(detail, answer.status_code, float(seconds) if seconds.isdigit() else None, kind)


def _events(answer: requests.Response) -> Iterator[Event | None]:
    """Yield the events of a stream, and None for each comment. Raises Unreachable if the stream breaks."""
    if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
        raise ClientError("invalid answer; expected an event stream")
    fields: dict[str, str] = {}
    try:
        for line in _lines(answer):
            if line.startswith(b":"):
                yield None
            elif line:
                name, _, value = line.decode().partition(":")
                fields[name] = value.removeprefix(" ")
            elif fields:
                yield _event(fields)
                fields = {}
    except requests.RequestException:
        raise Unreachable("the connection broke") from None


def _lines(answer: requests.Response) -> Iterator[bytes]:
    rest = b""
    for chunk in answer.iter_content(chunk_size=None):  # all bytes that have arrived
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines


def _event(fields: dict[str, str]) -> Event:
    return Event(fields.get("event", "message"), json.loads(fields.get("data", "{}")), fields.get("id") or None)
