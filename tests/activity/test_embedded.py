"""The embedded Redis beyond the contract: its wire format, fairness, limits and file."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from session_manager.activity.embedded import snapshot
from session_manager.activity.embedded.engine import Client, Engine
from session_manager.activity.embedded.snapshot import Snapshot
from session_manager.activity.server import LocalRedis, embedded_redis
from tests.servers import shared
from tests.servers.redis import RedisServer
from tests.waiting import until

ALL_TYPES = (
    ("SET", "text", "a\r\nb"),
    ("SET", "brief", "x", "PX", "60000"),
    ("HSET", "hash", "f", "1", "g", "2"),
    ("ZADD", "sorted", "1.5", "m", "1795883363506", "n"),
    ("RPUSH", "list", "a", "b", "a"),
    ("SADD", "set", "a", "b"),
)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with RedisServer(embedded_redis()) as server, shared(server.pid):
        yield server


@pytest.fixture
def client(server: RedisServer) -> Iterator[redis.Redis]:
    server.flush()
    with server.client() as client:
        yield client


def login(server: RedisServer) -> bytes:
    return b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%b\r\n" % (len(server.password), server.password.encode())


def everything(client: redis.Redis) -> dict[str, object]:
    return {
        "text": client.get("text"),
        "brief": client.get("brief"),
        "hash": client.hgetall("hash"),
        "sorted": client.zrange("sorted", 0, -1, withscores=True),
        "list": client.lrange("list", 0, -1),
        "set": client.smembers("set"),
    }


class TestReplies:
    @pytest.mark.parametrize("protocol", [2, 3])
    def test_each_type_in_both_protocols(self, server: RedisServer, client: redis.Redis, protocol: int) -> None:
        for command in ALL_TYPES:
            client.execute_command(*command)
        with redis.Redis.from_url(server.url, protocol=protocol) as other:
            found = everything(other)
            assert found["text"] == b"a\r\nb"
            assert found["hash"] == {b"f": b"1", b"g": b"2"}
            assert [tuple(pair) for pair in found["sorted"]] == [(b"m", 1.5), (b"n", 1795883363506.0)]  # type: ignore[attr-defined]
            assert other.get("nothing") is None
            assert other.eval("return {1, 1.9, false, 'x', {ok = 'fine'}}", 0) == [1, 1, None, b"x", b"fine"]
            assert other.info("server")["run_id"] == client.info("server")["run_id"]

    @pytest.mark.parametrize("protocol", [2, 3])
    def test_subscriptions_in_both_protocols(self, server: RedisServer, client: redis.Redis, protocol: int) -> None:
        with redis.Redis.from_url(server.url, protocol=protocol) as other, other.pubsub() as messages:
            messages.subscribe("news")
            assert messages.get_message(timeout=5)["type"] == "subscribe"
            client.publish("news", "today")
            assert messages.get_message(timeout=5)["data"] == b"today"

    def test_a_transaction(self, client: redis.Redis) -> None:
        with client.pipeline() as pipe:
            pipe.incr("n")
            pipe.incr("n")
            pipe.get("n")
            assert pipe.execute() == [1, 2, b"2"]

    def test_a_command_in_pieces(self, server: RedisServer) -> None:
        with socket.create_connection(("127.0.0.1", server.port)) as raw:
            for byte in login(server):
                raw.sendall(bytes([byte]))
            assert raw.recv(100) == b"+OK\r\n"

    @pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"*1\r\n:5\r\n", b"$4\r\nPING\r\n"])
    def test_what_is_no_command_ends_the_connection(self, server: RedisServer, garbage: bytes) -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
            raw.sendall(garbage)
            assert raw.makefile("rb").read().startswith(b"-ERR Protocol error")

    def test_nothing_is_configured_in_silence(self, client: redis.Redis) -> None:
        with pytest.raises(redis.ResponseError, match="cannot be configured"):
            client.config_set("maxmemory", 1)
        with pytest.raises(redis.ResponseError, match="no users"):
            client.acl_setuser("ada", enabled=True)


class TestScripts:
    def test_reach_neither_python_nor_files_nor_new_globals(self, client: redis.Redis) -> None:
        for name in ("python", "io", "require", "dofile", "os.execute"):
            assert client.eval(f"return {name} == nil and 1 or 0", 0) == 1, name
        with pytest.raises(redis.ResponseError, match="global variable 'leak'"):
            client.eval("leak = 1", 0)
        assert client.eval("return leak == nil and 1 or 0", 0) == 1

    def test_a_failed_one_keeps_the_server(self, client: redis.Redis) -> None:
        client.hset("hash", "f", "1")
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            client.eval("return redis.call('GET', 'hash')", 0)
        with pytest.raises(redis.ResponseError, match="Error running script"):
            client.eval("this is not Lua", 0)
        assert client.eval("return redis.pcall('GET', 'hash').err and 1", 0) == 1

    def test_are_forgotten_by_a_flush_before_their_first_use(self, server: RedisServer) -> None:
        with RedisServer(embedded_redis()) as fresh, fresh.client() as client:
            client.script_flush()
            with pytest.raises(redis.ResponseError, match="global variable"):
                client.eval("leak = 1", 0)


class TestConnections:
    def test_without_the_password_nothing_works(self, server: RedisServer) -> None:
        with redis.Redis(port=server.port, protocol=2, retry=Retry(NoBackoff(), 0)) as stranger:
            for command in ("PING", "INFO", "EVAL", "SUBSCRIBE", "CLIENT LIST"):
                with pytest.raises(redis.AuthenticationError):
                    stranger.execute_command(command)
        for user in ("", "default", "stranger"):
            at_once = Retry(NoBackoff(), 0)
            with (
                redis.Redis(port=server.port, username=user, password="wrong", retry=at_once) as stranger,
                pytest.raises(redis.AuthenticationError),
            ):
                stranger.ping()

    def test_without_the_password_nobody_fills_its_memory(self, server: RedisServer) -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw, pytest.raises(OSError):
            for _ in range(1000):
                raw.sendall(b"*1\r\n$1000000\r\n" + b"x" * 10_000)
            raw.recv(1)
            raise ConnectionResetError

    def test_a_long_pipeline_lets_others_in(self, server: RedisServer, client: redis.Redis) -> None:
        with socket.create_connection(("127.0.0.1", server.port)) as busy:
            busy.sendall(login(server) + b"*3\r\n$4\r\nEVAL\r\n$8\r\nreturn 1\r\n$1\r\n0\r\n" * 3000)
            started = time.monotonic()
            for _ in range(10):
                client.ping()
            took = time.monotonic() - started
            busy.settimeout(20)
            left = len(b"+OK\r\n" + b":1\r\n" * 3000)
            while left:
                read = len(busy.recv(65536))
                assert read
                left -= read
            assert took < time.monotonic() - started

    def test_a_client_that_blocks_lets_others_work_and_may_hang_up(
        self, server: RedisServer, client: redis.Redis
    ) -> None:
        with server.client() as other, server.client() as third:
            before = len(client.client_list())
            with socket.create_connection(("127.0.0.1", server.port)) as raw:
                raw.sendall(login(server) + b"*3\r\n$5\r\nBLPOP\r\n$4\r\nlist\r\n$1\r\n0\r\n")
                assert raw.recv(100) == b"+OK\r\n"
                assert len(client.client_list()) == before + 1
            deadline = time.monotonic() + 5
            while len(client.client_list()) > before:
                assert time.monotonic() < deadline
            other.rpush("list", "a")
            assert third.blpop("list", 5) == (b"list", b"a")
            assert third.blpop("list", 0.05) is None

    def test_a_subscriber_that_never_reads_is_disconnected(self, server: RedisServer, client: redis.Redis) -> None:
        with server.client() as other, other.pubsub() as messages:
            messages.subscribe("news")
            messages.get_message(timeout=5)
            for _ in range(60):
                client.publish("news", b"x" * 1_000_000)
            assert client.pubsub_numsub("news") == [(b"news", 0)]

    def test_a_killed_client_is_hung_up_on(self, server: RedisServer, client: redis.Redis) -> None:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
            raw.sendall(login(server) + b"*2\r\n$6\r\nCLIENT\r\n$2\r\nID\r\n")
            replies = raw.makefile("rb")
            assert replies.readline() == b"+OK\r\n"
            number = replies.readline()[1:].strip().decode()
            assert client.client_kill_filter(_id=number) == 1
            assert replies.read() == b""
        assert number not in {each["id"] for each in client.client_list()}


class TestSnapshot:
    def test_survives_a_kill_a_second_later(self) -> None:
        with RedisServer(embedded_redis()) as server:
            with server.client() as client:
                for command in ALL_TYPES:
                    client.execute_command(*command)
                client.execute_command("SET", "gone", "x", "PX", 1200)
                before = everything(client)
                run_id = client.info("server")["run_id"]
            time.sleep(1.5)
            server.kill()
            server.start()
            with server.client() as client:
                assert everything(client) == before
                assert 0 < client.pttl("brief") < 60_000
                assert client.get("gone") is None
                assert client.info("server")["run_id"] != run_id

    def test_has_everything_after_a_stop(self) -> None:
        with RedisServer(embedded_redis()) as server:
            with server.client() as client:
                client.execute_command("SELECT", 3)
                client.set("a", "b")
            server.stop()
            server.start()
            with redis.Redis.from_url(server.url.removesuffix("0") + "3") as client:
                assert client.get("a") == b"b"

    @pytest.mark.parametrize(
        "broken",
        [b"this is no command\r\n", b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nb\r\n*3\r\n$3\r\nSE", b"*1\r\n:1\r\n"],
    )
    async def test_that_is_broken_is_reported_and_dropped(self, tmp_path: Path, broken: bytes) -> None:
        (tmp_path / "snapshot.resp").write_bytes(broken)
        local = LocalRedis(tmp_path, program=embedded_redis())
        await local.start()
        with redis.Redis.from_url(local.url) as client:
            assert client.dbsize() == 0
        await local.stop()
        assert " # cannot read snapshot.resp" in (tmp_path / "redis.log").read_text()

    async def test_on_a_full_disk_is_reported_and_tried_again(self, tmp_path: Path) -> None:
        (tmp_path / "snapshot.new").mkdir()
        local = LocalRedis(tmp_path, program=embedded_redis())
        await local.start()
        with redis.Redis.from_url(local.url) as client:
            client.set("a", "b")
            log = tmp_path / "redis.log"
            await until(lambda: " # cannot write snapshot.resp" in log.read_text())
            assert client.get("a") == b"b"
        (tmp_path / "snapshot.new").rmdir()
        await local.stop()
        assert (tmp_path / "snapshot.resp").exists()

    async def test_run_ends_only_after_its_write_has_ended(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """So that ``save`` does not write the same file at the same time."""
        writing, released = threading.Event(), threading.Event()

        def hang(descriptor: int) -> None:
            writing.set()
            released.wait(20)

        monkeypatch.setattr(snapshot, "EVERY", 0.01)
        monkeypatch.setattr("os.fsync", hang)
        engine = Engine("secret")
        client = Client(engine, lambda reply: None)
        client.authenticated = True
        client.process([b"SET", b"a", b"first"])
        saved = Snapshot(engine, tmp_path / "snapshot.resp")
        running = asyncio.create_task(saved.run())
        assert await asyncio.to_thread(writing.wait, 20)
        running.cancel()
        ended, _ = await asyncio.wait([running], timeout=0.1)
        client.process([b"SET", b"a", b"second"])
        released.set()
        assert not ended
        await asyncio.wait([running])
        assert running.cancelled()
        assert b"first" in (tmp_path / "snapshot.resp").read_bytes()
        saved.save()
        assert b"second" in (tmp_path / "snapshot.resp").read_bytes()


PARENT = """
import json, subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "session_manager.activity.embedded"], stdin=subprocess.PIPE, text=True)
child.stdin.write(sys.argv[1])
child.stdin.close()
print(child.pid, flush=True)
sys.stdin.read()
"""


def test_it_ends_with_its_parent_without_a_signal_from_the_kernel(tmp_path: Path) -> None:
    """On macOS there is no parent-death signal, which LocalRedis asks Linux for."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    config = f'port {port}\nrequirepass secret\ndir {json.dumps(str(tmp_path))}\nlogfile redis.log\nsave ""\n'
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, config], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        deadline = time.monotonic() + 20
        log = tmp_path / "redis.log"
        while not log.exists() or "Ready to accept" not in log.read_text():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.kill(parent.pid, signal.SIGKILL)
    while child.is_running() and child.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert "Stopping" in log.read_text()
