"""``session-manager serve``: the same front door on given servers."""

from __future__ import annotations

import pytest
import requests

from tests.cli.program import FrontDoor, assert_one_line, run, until
from tests.servers.postgres import PASSWORD, postgres_server

KEY = "correct-horse-battery"
OTHER = "staple-staple-staple"


def ready(front: FrontDoor) -> bool:
    return requests.get(f"{front.url}/readyz", timeout=10).ok


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1"])
def test_without_keys_it_listens_on_loopback_only(tmp_path, host):
    assert_one_line(run("serve", "--host", host, cwd=tmp_path), f"HOST: {host} can be reached from other machines")


def test_with_keys_it_listens_anywhere_and_requires_one(start, redis_url):
    front = start("serve", HOST="0.0.0.0", SESSION_API_KEYS=f"web:{KEY},ada@ada:{OTHER}", REDIS_URL=redis_url)
    session = front.said("create", "--user", "bob", SESSION_MANAGER_KEY=KEY)
    assert front.cli("status", session).returncode == 4
    assert front.cli("status", session, SESSION_MANAGER_KEY="wrong").returncode == 4
    assert front.cli("create", SESSION_MANAGER_KEY=OTHER, SESSION_MANAGER_USER="bob").returncode == 4
    assert front.cli("status", session, SESSION_MANAGER_KEY=OTHER).returncode == 3
    assert front.printed("list", SESSION_MANAGER_KEY=OTHER)["total"] == 0
    assert front.printed("list", "--user", "bob", SESSION_MANAGER_KEY=KEY)["total"] == 1
    assert front.said("chat", session, "hello", SESSION_MANAGER_KEY=KEY) == "You said: hello"
    assert front.stop() == 0
    assert KEY not in front.err + front.out
    assert OTHER not in front.err + front.out


def test_a_wrong_redis_password_is_one_line(tmp_path, own_redis):
    url = f"redis://:wrong-wrong@127.0.0.1:{own_redis.port}/0"
    done = run("serve", cwd=tmp_path, REDIS_URL=url)
    assert_one_line(done, "rejects the user name or password")
    assert "wrong-wrong" not in done.stderr


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("REDIS_URL", "localhost:6379", "invalid REDIS_URL; expected redis://"),
        ("REDIS_URL", "redis://127.0.0.1:port/0", "invalid REDIS_URL; expected redis://"),
        ("SESSION_DB_URI", "mysql://somewhere/x", "SESSION_DB_URI is not valid; expected postgresql://"),
        ("SESSION_DB_URI", "sqlite:///:memory:", "SESSION_DB_URI: a database in memory would lose all data"),
        ("PORT", "eighty", 'PORT: invalid port "eighty"; expected a whole number from 0 to 65535'),
        ("LOG_LEVEL", "loud", 'LOG_LEVEL: invalid level "loud"; expected DEBUG, INFO, WARNING or ERROR'),
        ("LOG_FORMAT", "xml", 'LOG_FORMAT: invalid format "xml"; expected json, pretty or auto'),
        ("RATE_LIMIT_CHAT", "many", 'RATE_LIMIT_CHAT: invalid rate "many"; expected for example 100/minute or off'),
        ("SESSION_API_KEYS", "web:short-secret", "SESSION_API_KEYS: invalid list of keys; expected name:key"),
        ("SESSION_API_KEYS", f"local:{KEY}", "SESSION_API_KEYS: invalid list of keys; expected name:key"),
        ("SESSION_API_KEYS", f"web|user|ada:{KEY}", "SESSION_API_KEYS: invalid list of keys; expected name:key"),
        ("TRUSTED_PROXIES", "proxy.example", 'TRUSTED_PROXIES: invalid network "proxy.example"'),
        ("SESSION_CLASSES", "none.yaml", "none.yaml"),
        ("HOST", "no.such.host.invalid", "HOST: no.such.host.invalid is not an address of this machine"),
    ],
)
def test_an_invalid_setting_is_one_line(tmp_path, variable, value, words):
    done = run("serve", cwd=tmp_path, **{variable: value, "SESSION_API_KEYS": f"web:{KEY}"} | {variable: value})
    assert_one_line(done, words)
    assert "short-secret" not in done.stderr


def test_a_redis_that_is_away_is_waited_for(start, own_redis):
    own_redis.stop()
    front = start("serve", REDIS_URL=own_redis.url)
    assert not ready(front)
    assert front.cli("create").returncode == 7
    own_redis.start()
    until(lambda: ready(front), "ready")
    assert front.chat(front.create(), "hello") == "I heard hello"


def test_a_redis_that_rejects_the_password_later_ends_it(tmp_path, own_redis):
    own_redis.stop()
    front = FrontDoor("serve", tmp_path, REDIS_URL=f"redis://:wrong@127.0.0.1:{own_redis.port}/0")
    own_redis.start()
    assert front.ended() == 1
    front.client.close()
    last = front.err.splitlines()[-1]
    assert last.startswith("Error: Redis at ")
    assert last.endswith("rejects the user name or password")
    assert "Traceback" not in front.err
    assert "wrong" not in front.err.replace("WRONG", "")


def test_on_postgresql(start, tmp_path, redis_url):
    with postgres_server() as server:
        database = server.create_database("sessions")
        upgraded = run("db", "upgrade", cwd=tmp_path, SESSION_DB_URI=database)
        assert (upgraded.returncode, upgraded.stderr) == (0, "")
        assert PASSWORD not in upgraded.stdout
        front = start("serve", REDIS_URL=redis_url, SESSION_DB_URI=database)
        assert front.chat(front.create(), "hello") == "I heard hello"
        assert front.stop() == 0
    assert not (front.cwd / "data" / "sessions").exists()
