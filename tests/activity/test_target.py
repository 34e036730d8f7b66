from __future__ import annotations

import pytest
from pydantic import SecretStr
from redis.asyncio import Redis

from session_manager.activity.link import Link
from session_manager.activity.reconnecting import Target
from session_manager.domain.errors import StartupFailure
from session_manager.settings import Settings


@pytest.mark.parametrize(
    ("url", "host", "port", "user", "password", "database"),
    [
        ("redis://localhost", "localhost", 6379, "", "", 0),
        ("redis://:s%40crets@10.0.0.1:6380/3", "10.0.0.1", 6380, "", "s@crets", 3),
        ("redis://app:pw@redis.example/", "redis.example", 6379, "app", "pw", 0),
        ("redis://[::1]:7000/1", "::1", 7000, "", "", 1),
        ("rediss://:pw@redis.example:6390/0?ssl_cert_reqs=none", "redis.example", 6390, "", "pw", 0),
    ],
)
def test_urls_are_read_as_other_clients_read_them(url, host, port, user, password, database) -> None:
    target = Target.from_url(url)
    assert (target.host, target.port, target.username, target.password, target.database) == (
        (host, port, user, password, database)
    )
    assert (target.tls is not None) == url.startswith("rediss:")
    ours = Target.from_url(target.url)
    assert (ours.host, ours.port, ours.username, ours.password, ours.database) == (host, port, user, password, database)
    theirs = Redis.from_url(target.url).connection_pool.connection_kwargs
    assert (theirs["host"], theirs.get("port", 6379), theirs.get("db", 0)) == (host, port, database)
    assert (theirs.get("username") or "", theirs.get("password") or "") == (user, password)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost",
        "http://x",
        "redis://",
        "redis://h:port",
        "redis://h:99999",
        "redis://:secret@h/x",
        "redis://[::1",
    ],
)
def test_an_invalid_url_is_reported_without_its_secret(url: str) -> None:
    with pytest.raises(StartupFailure) as failure:
        Target.from_url(url)
    assert "REDIS_URL" in failure.value.detail
    assert "secret" not in failure.value.detail


def test_a_missing_certificate_file_is_reported() -> None:
    with pytest.raises(StartupFailure, match="ssl_ca_certs"):
        Target.from_url("rediss://h?ssl_ca_certs=/nowhere/ca.pem")


def test_the_url_wins_over_host_and_port() -> None:
    parts = Settings.from_environment(redis_host="h", redis_port=1, redis_password=SecretStr("one"))
    assert Target.from_settings(parts).url == "redis://:one@h:1/0"
    both = Settings.from_environment(redis_host="h", redis_port=1, redis_url=SecretStr("redis://:two@g:2/0"))
    assert Target.from_settings(both).url == "redis://:two@g:2/0"


@pytest.mark.parametrize("password", ["p@ss/w#rd?", "%41 $(x) 'quoted\"", "\\ ü€😀:", " "])
def test_the_password_is_for_an_address_without_one(password: str) -> None:
    for url in ("redis://app@g:2/3", "rediss://app:@g"):
        target = Target.from_settings(Settings.from_environment(redis_url=url, redis_password=password))
        assert target.greeting()[0] == ("AUTH", "app", password)
        assert Target.from_url(target.url).password == password
    bare = Settings.from_environment(redis_url="redis://g", redis_password=password)
    assert Target.from_settings(bare).greeting() == [("AUTH", password)]


def test_passwords_do_not_appear_in_representations() -> None:
    target = Target.from_url("redis://app:hunter2@h/0")
    for text in (repr(target), str(target), repr(Link(target, 1.0))):
        assert "hunter2" not in text
        assert "h" in text
