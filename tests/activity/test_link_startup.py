"""The error of start() for a Redis that it cannot use."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from session_manager.activity.link import Link
from session_manager.domain.errors import ActivityUnavailable, StartupFailure
from tests.servers.redis import RedisServer

SECRET = "not-the-password"


async def failure_of(url: str) -> str:
    """Return the sentence of the StartupFailure for this address."""
    with pytest.raises(StartupFailure) as failure:
        await Link.from_url(url, timeout=5).start()
    assert SECRET not in failure.value.detail
    assert "\n" not in failure.value.detail
    return failure.value.detail


async def test_wrong_credentials(redis_server: RedisServer) -> None:
    where = f"127.0.0.1:{redis_server.port}"
    assert "rejects the user name or password" in await failure_of(f"redis://:{SECRET}@{where}")
    assert "rejects the user name or password" in await failure_of(f"redis://stranger:{SECRET}@{where}")
    assert "wants a password" in await failure_of(f"redis://{where}")


async def test_a_wrong_database(redis_server: RedisServer) -> None:
    assert "database number" in await failure_of(redis_server.url.removesuffix("/0") + "/9999")


@pytest.mark.usefixtures("real_redis_only")
async def test_a_user_without_permission(redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.acl_setuser("narrow", enabled=True, passwords=[f"+{SECRET}"], commands=["+ping"])
        assert "does not allow this user" in await failure_of(f"redis://narrow:{SECRET}@127.0.0.1:{redis_server.port}")
        client.acl_deluser("narrow")


@pytest.mark.usefixtures("real_redis_only")
async def test_a_password_for_a_redis_without_one_is_reported(redis_server: RedisServer, redis_url: str) -> None:
    with redis_server.client() as client:
        client.config_set("requirepass", "")
        try:
            assert "check user, password" in await failure_of(redis_url)
        finally:
            client.config_set("requirepass", redis_server.password)


@pytest.mark.usefixtures("real_redis_only")
async def test_a_redis_with_too_many_clients_is_tried_again(redis_server: RedisServer, redis_url: str) -> None:
    with redis_server.client() as client:
        before = client.config_get("maxclients")["maxclients"]
        client.config_set("maxclients", 1)
        try:
            with pytest.raises(ActivityUnavailable):
                await Link.from_url(redis_url).start()
        finally:
            client.config_set("maxclients", before)


async def test_no_server_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(ActivityUnavailable):
            await Link.from_url(f"redis://127.0.0.1:{unused.getsockname()[1]}").start()


@pytest.mark.parametrize(
    ("number", "error"), [(socket.EAI_NONAME, StartupFailure), (socket.EAI_AGAIN, ActivityUnavailable)]
)
async def test_host_names_that_do_not_resolve(
    monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
) -> None:
    def resolve(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(number, "said the resolver")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(error):
        await Link.from_url("redis://redis.example").start()


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]


@asynccontextmanager
async def server(first_words: bytes) -> AsyncIterator[int]:
    """Run a server that answers everything with ``first_words``, and return its port."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(first_words)
        await reader.read()
        writer.close()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    yield listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()


@pytest.mark.parametrize(
    "words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x16", b"$5\r\nhello\r\n"]
)
async def test_another_kind_of_server_listens(words: bytes) -> None:
    async with server(words) as port:
        assert "is not a Redis" in await failure_of(f"redis://127.0.0.1:{port}")


async def test_a_silent_server_is_given_up() -> None:
    async with server(b"") as port:
        with pytest.raises(ActivityUnavailable):
            await Link.from_url(f"redis://127.0.0.1:{port}", timeout=0.1).start()


@asynccontextmanager
async def tls_proxy(redis_port: int, authority: trustme.CA) -> AsyncIterator[int]:
    """Run TLS in front of a plain Redis, and return its port."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except OSError:
            pass
        finally:
            writer.close()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        redis_reader, redis_writer = await asyncio.open_connection("127.0.0.1", redis_port)
        await asyncio.gather(pump(reader, redis_writer), pump(redis_reader, writer))

    listening = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    yield listening.sockets[0].getsockname()[1]
    listening.close()
    await listening.wait_closed()


async def test_tls(redis_server: RedisServer, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    async with tls_proxy(redis_server.port, authority) as port:
        user = f":{redis_server.password}@"
        for address in (
            f"rediss://{user}localhost:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}",
            f"rediss://{user}127.0.0.1:{port}?ssl_cert_reqs=none",
        ):
            link = Link.from_url(address)
            await link.start()
            assert await link.execute("PING") == b"PONG"
            await link.close()
        assert "TLS" in await failure_of(f"rediss://{user}localhost:{port}")
        assert "TLS" in await failure_of(f"rediss://{user}127.0.0.1:{port}?ssl_ca_certs={tmp_path / 'ca.pem'}")


async def test_tls_to_a_plain_server() -> None:
    async with server(b"-ERR Protocol error\r\n") as port:
        assert "TLS" in await failure_of(f"rediss://localhost:{port}")
