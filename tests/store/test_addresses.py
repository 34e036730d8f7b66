"""Every form of SESSION_DB_URI, connected to a real PostgreSQL: TCP, TLS, IPv6, socket folders, odd passwords."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest
import trustme
from pydantic import SecretStr

from session_manager.domain.errors import StartupFailure
from session_manager.settings import Settings
from session_manager.store.open import open_store
from tests.servers import shared
from tests.servers.postgres import PASSWORD, postgres_server
from tests.waiting import until

ODD = "p@s:s/w#o?r%d+ä&[=]"


@dataclass
class Served:
    """``login`` is user and password as in an address, ``folder`` contains the socket, ``ca`` is a file."""

    port: int
    login: str
    folder: Path
    ca: Path


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """Start a server with TLS for localhost, on 127.0.0.1 and ::1, with a socket where Cloud SQL's proxy has one."""
    base = Path(tempfile.mkdtemp(prefix="pg-"))
    base.chmod(0o755)
    folder = base / "cloudsql" / "project:region:db"
    folder.mkdir(parents=True)
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "::1")
    certificate.private_key_and_cert_chain_pem.write_to_path(str(base / "server.pem"))
    authority.cert_pem.write_to_path(str(base / "ca.pem"))
    (base / "server.pem").chmod(0o600)
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        for path in (folder, base / "server.pem"):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    options = ["ssl=on", f"ssl_cert_file={base}/server.pem", f"ssl_key_file={base}/server.pem"]
    options += ["listen_addresses=127.0.0.1,::1", f"unix_socket_directories={folder}"]
    with postgres_server(*options) as server, shared(server.pid):
        quoted = ODD.replace("'", "''")
        server.execute(f"CREATE ROLE \"o:d@d\" SUPERUSER LOGIN PASSWORD '{quoted}'")
        yield Served(server.port, f"postgres:{PASSWORD}", folder, base / "ca.pem")
    shutil.rmtree(base)


async def connected_with(uri: str, plain_hosts: str = "") -> tuple[str, bool]:
    """Return the user of a connection, and True if it uses TLS."""
    settings = Settings.from_environment(
        session_db_uri=SecretStr(uri), session_db_plain_hosts=plain_hosts, database_pool=1
    )
    store = open_store(settings)
    await store.start()
    try:
        rows = await store._rows(  # type: ignore[attr-defined]
            "SELECT current_user, coalesce((SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()), false)"
        )
    finally:
        await store.close()
    return rows[0][0], rows[0][1]


def forms(served: Served) -> dict[str, bool]:
    """Return addresses of the server, with True if the connection must use TLS."""
    login, port, ca, folder = served.login, served.port, served.ca, served.folder
    odd = f"{quote('o:d@d', safe='')}:{quote(ODD, safe='')}"
    return {
        f"postgresql://{login}@127.0.0.1:{port}/postgres": True,  # because the server offers it
        f"postgresql://{login}@127.0.0.1:{port}/postgres?sslmode=disable": False,
        f"postgres://{login}@127.0.0.1:{port}/postgres?sslmode=require": True,
        f"postgresql+asyncpg://{login}@localhost:{port}/postgres?ssl=require": True,
        f"postgresql+psycopg://{login}@localhost:{port}/postgres?sslmode=verify-full&sslrootcert={ca}": True,
        f"postgresql://{login}@[::1]:{port}/postgres?sslmode=verify-full&sslrootcert={ca}": True,
        f"postgresql://{login}@127.0.0.1:{port}/postgres?sslmode=verify-ca&sslrootcert={ca}&connect_timeout=5": True,
        f"postgresql://{login}@127.0.0.1:1,localhost:{port}/postgres": True,
        f"postgresql://{login}@/postgres?host={folder}&port={port}": False,
        f"postgresql:///postgres?host={folder}&port={port}&user=postgres&password={PASSWORD}": False,
        f"postgresql+asyncpg://{login}@{quote(str(folder), safe='')}:{port}/postgres": False,
        f"postgresql://{odd}@127.0.0.1:{port}/postgres": True,
        f"postgresql://o%3Ad%40d:p@s:s%2Fw%23o%3Fr%25d+ä&%5B=%5D@127.0.0.1:{port}/postgres": True,
    }


@pytest.mark.parametrize("number", range(13))
async def test_every_form_connects(served: Served, number: int):
    uri, tls = list(forms(served).items())[number]
    user, encrypted = await connected_with(uri)
    assert user == ("o:d@d" if "o%3Ad" in uri else "postgres")
    assert encrypted == tls


async def test_a_host_name_that_is_not_in_the_certificate_is_rejected(served: Served):
    where = f"{served.login}@127.0.0.1:{served.port}/postgres"
    with pytest.raises(StartupFailure, match="TLS connection"):
        await connected_with(f"postgresql://{where}?sslmode=verify-full&sslrootcert={served.ca}")
    with pytest.raises(StartupFailure, match="TLS connection"):  # this machine does not trust the test's authority
        await connected_with(f"postgresql://{where}?sslmode=verify-full&sslrootcert=system")


async def test_another_machine_without_tls_is_rejected(served: Served, monkeypatch: pytest.MonkeyPatch):
    """The name is not a loopback name, and the server offers no TLS."""
    asked: list[str] = []

    async def pool(uri: str, **_: object) -> None:
        asked.append(uri)
        raise ConnectionError("PostgreSQL server at db.example rejected SSL upgrade")

    monkeypatch.setattr(asyncpg, "create_pool", pool)
    with pytest.raises(StartupFailure, match="SESSION_DB_PLAIN_HOSTS"):
        await connected_with("postgresql://me:secret@db.example/facts")
    assert "sslmode=require" in asked[0]


POOLER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
POOLED = """\
[databases]
postgres = host=127.0.0.1 port={port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = plain
auth_file = {folder}/users
pool_mode = session
default_pool_size = 4
ignore_startup_parameters = jit,lock_timeout,default_transaction_isolation
"""


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.skipif(POOLER is None, reason="needs pgbouncer")
async def test_through_a_pooler_of_sessions(served: Served):
    """Use the settings of docs/SESSION_DATABASE_CONFIG.md, with twice as many callers as the pooler has connections."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        listen = probe.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    folder.chmod(0o755)
    (folder / "users").write_text(f'"postgres" "{PASSWORD}"\n')
    (folder / "ini").write_text(POOLED.format(port=served.port, listen=listen, folder=folder))
    become = ["-u", "nobody"] if os.geteuid() == 0 else []
    silent = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(str(POOLER), "-q", *become, str(folder / "ini"), stderr=silent)
    try:
        await until(lambda: listens(listen))
        uri = f"postgresql://{served.login}@127.0.0.1:{listen}/postgres?sslmode=disable"
        users = await asyncio.gather(*(connected_with(uri) for _ in range(8)))
        assert {user for user, _ in users} == {"postgres"}
    finally:
        process.terminate()
        await process.wait()
        shutil.rmtree(folder)
