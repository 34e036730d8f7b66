"""The request that a pod gets, and the replies that its answers become."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from session_manager.domain.session_class import SessionClass
from session_manager.podclient.gateway import PodGateway
from session_manager.podclient.protocol import TurnRequest
from session_manager.podclient.replies import delta_text, reply_text
from tests.podclient.conftest import Ask, no_delta
from tests.podclient.raw import Exchange, raw_pod


async def test_a_pod_is_sent_the_message_and_nothing_else(client: PodGateway) -> None:
    async def reply(exchange: Exchange) -> None:
        await exchange.answer(b"{}")

    request = TurnRequest("s-1", "ada", "m-1", 2, 'Grüße "\n\x01', "t-1")
    async with raw_pod(reply) as pod:
        await client.chat(pod.address, SessionClass("test"), request, no_delta)
        [seen] = pod.requests
    assert seen.line == "POST /chat HTTP/1.1"
    assert json.loads(seen.body) == {
        "message": 'Grüße "\n\x01',
        "message_id": "m-1",
        "session_id": "s-1",
        "user_id": "ada",
    }
    assert seen.headers == {
        "Host": f"127.0.0.1:{pod.address.port}",
        "User-Agent": "session-manager",
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "X-Session-Id": "s-1",
        "X-Message-Id": "m-1",
        "X-Attempt": "2",
        "X-Session-Token": "t-1",
        "Content-Length": str(len(seen.body)),
    }


@pytest.mark.parametrize("name", ["session", "message_id", "token"])
async def test_an_id_cannot_add_a_header(client: PodGateway, name: str) -> None:
    ids: dict[str, Any] = {"session": "s-1", "message_id": "m-1", "token": "t-1"} | {name: "x\r\nAuthorization: y"}
    async with raw_pod(lambda exchange: exchange.answer(b"{}")) as pod:
        with pytest.raises(ValueError, match="must be printable to be sent in a header"):
            request = TurnRequest(user_id="ada", attempt=1, text="", **ids)
            await client.chat(pod.address, SessionClass("test"), request, no_delta)
        assert pod.requests == []


async def test_a_message_of_a_mebibyte_arrives(ask: Ask) -> None:
    async with raw_pod(lambda exchange: exchange.answer(exchange.request.body)) as pod:
        text = "ü" * 512 * 1024
        assert json.loads(await ask(pod, text))["message"] == text


@pytest.mark.parametrize(
    ("body", "kind", "response"),
    [
        (b'{"a": 1}', "application/json", '{"a": 1}'),
        (b'{"a": 1.10, "a": 1e400, "b": 123456789012345678901234567890}', "text/plain", None),
        (b' {"a":\r\n"\\u0000\\n"}\n', "application/json", ' {"a":  "\\u0000\\n"} '),
        (b"[1, 2]", "application/json", '{"reply": [1, 2]}'),
        (b'"Hi"', "application/json", '{"reply": "Hi"}'),
        (b"null", "application/json", '{"reply": null}'),
        (b"Hi", "text/plain", '{"reply":"Hi"}'),
        (b"", "text/plain", '{"reply":""}'),
        (b"a\x00b\xff\xc3", "text/plain", '{"reply":"a\\u0000b\ufffd\ufffd"}'),
        (b'{"a": "\xff"}', "application/json", '{"a":"\ufffd"}'),
        (
            b'{"a": "\\ud800", "\\udc00": [{"b": "\\ud83d\\ude00"}]}',
            "application/json",
            '{"a":"\ufffd","\ufffd":[{"b":"\U0001f600"}]}',
        ),
        (b'{"a": NaN, "b": [-Infinity]}', "application/json", '{"a":null,"b":[null]}'),
        (b'\xef\xbb\xbf{"a": 1}', "application/json", '{"a":1}'),
        (b'{"a": 1', "application/json", '{"reply":"{\\"a\\": 1"}'),
        (b'{"a": "\x00"}', "application/json", '{"reply":"{\\"a\\": \\"\\u0000\\"}"}'),
        (b"[" * 90_000, "application/json", None),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "application/json", None),
    ],
)
async def test_an_answer_becomes_a_json_object(ask: Ask, body: bytes, kind: str, response: str | None) -> None:
    async with raw_pod(lambda exchange: exchange.answer(body, kind)) as pod:
        found = await ask(pod)
    assert found == (body.decode() if body.startswith(b'{"a": 1.10') else response) or response is None
    assert isinstance(orjson.loads(found), dict)


@given(st.binary() | st.text().map(str.encode) | st.from_type(type(None)).map(lambda _: b'{"\\udfff": 1e999}'))
def test_every_answer_becomes_one_line_of_json(body: bytes) -> None:
    text = reply_text(body)
    assert isinstance(orjson.loads(text), dict)
    assert "\n" not in text
    assert "\r" not in text


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)


@given(json_values, st.sampled_from([None, 2]))
def test_an_object_keeps_its_value_and_anything_else_is_wrapped(value: object, indent: int | None) -> None:
    found = orjson.loads(reply_text(json.dumps(value, indent=indent).encode()))
    assert found == (value if isinstance(value, dict) else {"reply": value})


@given(json_values)
def test_a_delta_keeps_its_value(value: object) -> None:
    text, words = delta_text(json.dumps(value))
    assert orjson.loads(text) == value
    assert isinstance(words, str)


@given(st.text(st.characters(codec="utf-8")))
def test_a_delta_that_is_not_json_is_text(data: str) -> None:
    text, words = delta_text("x" + data)
    assert orjson.loads(text) == {"text": "x" + data}
    assert words == "x" + data
