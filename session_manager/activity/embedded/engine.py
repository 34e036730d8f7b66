"""The commands of the embedded Redis: those of fakeredis, and what clients expect of a server besides."""

from __future__ import annotations

import asyncio
import hmac
import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from fakeredis import FakeServer
from fakeredis._commands import command
from fakeredis._core import Database
from fakeredis._helpers import OK, SimpleError, SimpleString
from fakeredis._socket import AsyncFakeSocket
from redis import Redis

from session_manager.activity.embedded.scripts import FastScripts

VERSION = (7, 0, 0)
DATABASES = 16
CONFIG = {b"appendonly": b"no", b"databases": b"%d" % DATABASES, b"maxmemory-policy": b"noeviction", b"save": b"1 1"}
NEEDS_PASSWORD = SimpleError("NOAUTH Authentication required.")
WRONG_PASSWORD = SimpleError("WRONGPASS invalid username-password pair or user is disabled.")


class Engine:
    """The data and scripts that all connections share. ``run_id`` is new in every process, as in Redis."""

    def __init__(self, password: str, port: int = 0) -> None:
        self.password = password.encode()
        self.port = port
        self.run_id = secrets.token_hex(20)
        self.started = time.time()
        self.changes = 0
        self.server = FakeServer(version=VERSION)
        self.server.dbs = {number: self._database() for number in range(DATABASES)}

    def _database(self) -> Database:
        database = Database(self.server.lock)
        database.add_change_callback(self._changed)
        return database

    def _changed(self) -> None:
        self.changes += 1

    def clear(self) -> None:
        for database in self.server.dbs.values():
            with self.server.lock:
                database.clear()

    def forget_expired(self) -> None:
        """Free the memory of expired keys that no client asked for again."""
        now = time.time()
        for database in self.server.dbs.values():
            database.time = now
            len(database)


class Client(FastScripts, AsyncFakeSocket):
    """One connection. ``reply`` is called with every reply and message; ``ready`` when a blocked command has ended."""

    def __init__(self, engine: Engine, reply: Callable[[Any], None], ready: Callable[[], None] = lambda: None) -> None:
        super().__init__(engine.server, 0, client_class=Redis)
        self._engine = engine
        self._reply = reply
        self._ready = ready
        self._waiter: asyncio.Task[Any] | None = None
        self.authenticated = not engine.password
        self.closed = False

    @property
    def protocol(self) -> int:
        return self._client_info.protocol_version

    @property
    def blocked(self) -> bool:
        return self._paused

    def process(self, fields: list[bytes]) -> None:
        """Run one command; its reply goes to ``reply``, at once or when it no longer blocks."""
        if not self.authenticated and fields[0].lower() not in (b"auth", b"hello", b"quit"):
            self.put_response(NEEDS_PASSWORD)
        else:
            self._process_command(fields)

    def put_response(self, msg: Any) -> None:
        if not self.closed:
            self._reply(msg)

    def close(self) -> None:
        """Forget subscriptions, watches and a command that blocks."""
        self.closed = True
        if self._waiter is not None:
            self._waiter.cancel()
        with suppress(ValueError):  # CLIENT KILL has removed it
            self._server.sockets.remove(self)
        with self._server.lock:
            self._discard_subscriptions()
            self._clear_watches()

    def kill(self) -> None:
        super().kill()
        self._ready()

    @property
    def killed(self) -> bool:
        return self._killed

    # -- commands that fakeredis lacks or answers differently ------------------------------------------------------

    def _decode_result(self, result: Any) -> Any:
        return result  # the encoder distinguishes status, error and bulk

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._ready()

    async def _async_blocking(self, *args: Any, **kwargs: Any) -> None:
        self._waiter = asyncio.current_task()
        try:
            await super()._async_blocking(*args, **kwargs)
        finally:
            self._waiter = None

    def _auth(self, *args: bytes) -> SimpleString:
        if not 1 <= len(args) <= 2:
            raise SimpleError("ERR wrong number of arguments for 'auth' command")
        if args[:-1] not in ((), (b"default",)) or not hmac.compare_digest(args[-1], self._engine.password):
            raise WRONG_PASSWORD
        self.authenticated = True
        return OK

    def hello(self, *args: bytes) -> dict[str, Any]:
        options = list(args[1:])
        if args and args[0] not in (b"2", b"3"):
            raise SimpleError("NOPROTO unsupported protocol version")
        while options:
            option = options.pop(0).lower()
            if option == b"auth" and len(options) >= 2:
                self._auth(options.pop(0), options.pop(0))
            elif option == b"setname" and options:
                self.client_setname(options.pop(0))
            else:
                raise SimpleError(f"ERR Syntax error in HELLO option '{option.decode(errors='replace')}'")
        if not self.authenticated:
            raise SimpleError("NOAUTH HELLO must be called with the client already authenticated")
        if args:
            self._client_info["resp"] = int(args[0])
        return {
            "server": "redis",
            "version": _version(),
            "proto": self.protocol,
            "id": self.client_getid(),
            "mode": "standalone",
            "role": "master",
            "modules": [],
        }

    @command(name="INFO", fixed=(), repeat=(bytes,))
    def info(self, *sections: bytes) -> bytes:
        engine = self._engine
        facts = {
            "redis_version": _version(),
            "redis_mode": "standalone",
            "redis_engine": "embedded",
            "process_id": os.getpid(),
            "run_id": engine.run_id,
            "tcp_port": engine.port,
            "uptime_in_seconds": int(time.time() - engine.started),
            "connected_clients": len(engine.server.sockets),
            "role": "master",
            "loading": 0,
        }
        lines = [f"{name}:{value}" for name, value in facts.items()]
        sizes = [f"db{number}:keys={len(db)}" for number, db in engine.server.dbs.items() if len(db)]
        return "\r\n".join(["# Server", *lines, "", "# Keyspace", *sizes, ""]).encode()

    @command(name="CONFIG GET", fixed=(bytes,), repeat=(bytes,))
    def config_get(self, *names: bytes) -> dict[bytes, bytes]:
        return {name: CONFIG[name] for name in names if name in CONFIG}

    def config_set(self, *args: bytes) -> SimpleString:
        raise SimpleError("ERR the embedded Redis cannot be configured")

    def acl_setuser(self, username: bytes, *args: bytes) -> SimpleString:
        raise SimpleError("ERR the embedded Redis has no users but default")

    @command(name="QUIT", fixed=(), repeat=())
    def quit(self) -> SimpleString:
        self._killed = True
        return OK


def _version() -> str:
    return ".".join(map(str, VERSION))
