"""The pipelined connection without a server: the writes, and the caller that gets each reply."""

from __future__ import annotations

import asyncio

import pytest

from session_manager.activity.resp import NoScript, RedisConnection, RedisError
from session_manager.domain.errors import ActivityUnavailable


class RecordingTransport(asyncio.Transport):
    """Records writes. ``abort`` ends the connection like a real transport."""

    def __init__(self, connection: RedisConnection) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self._connection = connection

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def abort(self) -> None:
        asyncio.get_running_loop().call_soon(self._connection.connection_lost, None)


def connected(timeout: float = 60.0, **kwargs) -> tuple[RedisConnection, RecordingTransport]:
    connection = RedisConnection(timeout, **kwargs)
    transport = RecordingTransport(connection)
    connection.connection_made(transport)
    return connection, transport


async def tick() -> None:
    await asyncio.sleep(0)


async def test_commands_of_one_tick_leave_in_one_write() -> None:
    connection, transport = connected()
    futures = [connection.send((b"ECHO", word)) for word in ("a", "b", "c")]
    assert transport.writes == []
    await tick()
    assert transport.writes == [b"".join(b"*2\r\n$4\r\nECHO\r\n$1\r\n%s\r\n" % word for word in (b"a", b"b", b"c"))]
    futures.append(connection.send((b"PING",)))
    await tick()
    assert transport.writes[1:] == [b"*1\r\n$4\r\nPING\r\n"]
    connection.data_received(b"$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n+PONG\r\n")
    assert [future.result() for future in futures] == [b"a", b"b", b"c", b"PONG"]
    await connection.close()


async def test_a_cancelled_caller_keeps_its_place() -> None:
    connection, _ = connected()
    first, second, third = [connection.send((b"ECHO", word)) for word in ("a", "b", "c")]
    second.cancel()
    await tick()
    connection.data_received(b"+a\r\n+b\r\n+c\r\n")
    assert (first.result(), third.result()) == (b"a", b"c")
    await connection.close()


async def test_replies_in_pieces() -> None:
    connection, _ = connected()
    future = connection.send((b"GET", b"k"))
    for byte in b"$5\r\nhello\r\n":
        assert not future.done()
        connection.data_received(bytes([byte]))
    assert future.result() == b"hello"
    await connection.close()


@pytest.mark.parametrize("bad", [None, True, {}, [1]])
async def test_an_argument_of_a_wrong_type_leaves_the_queue_as_it_is(bad: object) -> None:
    connection, transport = connected()
    with pytest.raises(TypeError):
        await connection.send((b"SET", b"k", bad))  # type: ignore[arg-type]
    await tick()
    assert transport.writes == []
    future = connection.send((b"PING",))
    connection.data_received(b"+PONG\r\n")
    assert future.result() == b"PONG"
    await connection.close()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("WRONGTYPE Operation against a key", RedisError),
        ("NOSCRIPT No matching script. Please use EVAL.", NoScript),
        ("LOADING Redis is loading the dataset in memory", ActivityUnavailable),
        ("OOM command not allowed when used memory > 'maxmemory'.", ActivityUnavailable),
        ("ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed", ActivityUnavailable),
        ("ERR max number of clients reached", ActivityUnavailable),
        ("BUSY Redis is busy running a script.", ActivityUnavailable),
        ("BUSYGROUP Consumer Group name already exists", RedisError),
        ("ERR unknown command 'LOADING'", RedisError),
    ],
)
async def test_error_replies(line: str, error: type[Exception]) -> None:
    connection, _ = connected()
    refused, next_one = connection.send((b"X",)), connection.send((b"PING",))
    connection.data_received(f"-{line}\r\n+PONG\r\n".encode())
    assert type(refused.exception()) is error
    assert next_one.result() == b"PONG"
    await connection.close()


async def test_the_connection_to_a_former_primary_is_closed() -> None:
    connection, _ = connected()
    refused = connection.send((b"SET", b"a", b"b"))
    connection.data_received(b"-READONLY You can't write against a read only replica.\r\n")
    assert isinstance(refused.exception(), ActivityUnavailable)
    await connection.lost.wait()
    await connection.close()


async def test_errors_inside_an_array_stay_values() -> None:
    connection, _ = connected()
    future = connection.send((b"EXEC",))
    connection.data_received(b"*2\r\n:1\r\n-ERR no\r\n")
    one, error = future.result()
    assert one == 1
    assert isinstance(error, RedisError)
    await connection.close()


@pytest.mark.parametrize("garbage", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+OK\r\n+nobody asked\r\n"])
async def test_bytes_that_are_not_a_reply_end_the_connection(garbage: bytes) -> None:
    connection, _ = connected()
    first = connection.send((b"PING",))
    connection.data_received(garbage)
    assert connection.lost.is_set()
    assert connection.garbled
    assert first.exception() is None or isinstance(first.exception(), ActivityUnavailable)
    with pytest.raises(ActivityUnavailable):
        await connection.send((b"PING",))
    await connection.close()


async def test_silence_breaks_the_connection_for_all_in_flight() -> None:
    connection, _ = connected(timeout=0.05)
    futures = [connection.send((b"PING",)) for _ in range(3)]
    connection.data_received(b"+PONG\r\n")
    await connection.lost.wait()
    assert futures[0].result() == b"PONG"
    assert all(isinstance(future.exception(), ActivityUnavailable) for future in futures[1:])
    await connection.close()


async def test_an_answered_connection_outlives_its_timeout() -> None:
    loop = asyncio.get_running_loop()
    connection, _ = connected(timeout=0.02)
    started = loop.time()
    while loop.time() < started + 0.1:
        future = connection.send((b"PING",))
        await tick()
        connection.data_received(b"+PONG\r\n")
        assert await future == b"PONG"
    assert not connection.lost.is_set()
    await connection.close()


async def test_messages_arrive_between_replies() -> None:
    seen = []
    connection, _ = connected(on_message=lambda channel, data: seen.append((channel, data)))
    first, second = connection.send((b"SUBSCRIBE", b"c")), connection.send((b"PING",))
    message = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$2\r\nhi\r\n"
    connection.data_received(
        message + b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n" + message + b"*2\r\n$4\r\npong\r\n$0\r\n\r\n"
    )
    assert first.result()[0] == b"subscribe"
    assert second.result() == [b"pong", b""]
    assert seen == [(b"c", b"hi")] * 2
    await connection.close()
