"""An invalid value ends the start with one line that names the setting; no value fails later."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import SecretStr

from session_manager import settings
from session_manager.aio.retry import Backoff
from session_manager.domain.errors import StartupFailure
from session_manager.scaling.workers import ScalerTimes
from session_manager.settings import Settings
from session_manager.settings.kinds import TEN_YEARS
from tests.cli.program import call

DECLARED = Settings.declared()
NUMBERS = {name: each for name, each in DECLARED.items() if re.search(r"\b(int|float)\b", str(each.annotation))}
NO_NUMBER = ("nan", "inf", "-inf", "-1", "-0.5", "1e400", "9" * 30, "abc", "1,5", "0x10", "1 2", "½", " ", "5s")
SIZES = ("STORED_PER_USER",)
RATES = [name for name in DECLARED if name.startswith("RATE_LIMIT_")]
KEY = "correct-horse-battery"


def rejected(variable: str, text: str) -> str:
    """Return the error that this value ends with."""
    with pytest.raises(StartupFailure) as caught:
        Settings.from_environment(**{variable.lower(): text})
    [line] = caught.value.detail.splitlines()
    assert re.fullmatch(rf'{variable}: invalid [a-z ]+( ".*")?; expected \w.+', line), line
    return line


def test_there_are_numbers():
    assert len(NUMBERS) > 25


@pytest.mark.parametrize("text", NO_NUMBER)
@pytest.mark.parametrize("variable", NUMBERS)
def test_no_setting_takes_nonsense_for_a_number(variable: str, text: str):
    assert f'"{text}"' in rejected(variable, text)


@pytest.mark.parametrize("variable", NUMBERS)
def test_no_number_is_absurdly_large_or_small(variable: str):
    value = type(NUMBERS[variable].default or 0)
    limits = rejected(variable, str(value(TEN_YEARS) * (10**8 if variable in SIZES else 100)))
    if "expected 0 to" not in limits and "from 0 to" not in limits and variable != "WRITER_LEASE":
        rejected(variable, "0")


@pytest.mark.parametrize("variable", NUMBERS)
def test_the_command_line_ends_with_one_line(variable: str):
    done = call("serve", **{variable: "nan"})
    assert done.returncode == 1
    assert re.fullmatch(rf'Error: {variable}: invalid \w.* "nan"; expected .*\n', done.stderr), done.stderr


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        *((name, text) for name in RATES for text in ("5 per lunch", "0/minute", "-1/minute", "9" * 20 + "/second")),
        *((name, f"5/second{separator}100/minute") for name in RATES for separator in ",;|"),
        ("RATE_LIMIT_CHAT", "1 per 1000 years"),
        ("TRUSTED_PROXIES", "10.0.0.0/8, proxy.example"),
        ("TRUSTED_PROXIES", "10.0.0.1/8"),
        ("POD_CIDRS", "10.0.0.0/99"),
        ("SESSION_MANAGER_URL", "sessions.example:8080"),
        ("SESSION_MANAGER_URL", "ftp://sessions.example"),
        ("SESSION_MANAGER_URL", "http://sessions.example:99999"),
        ("SESSIONS_NAMESPACE", "Not_a_namespace"),
        ("INSTALL_ID", "two words"),
        ("USER_POD_IMAGE", "an image"),
        ("WRITER_YIELDS", "maybe"),
        ("WRITER_LEASE", "0.5"),
        ("SESSION_RUNTIME", "docker"),
        ("BACKUP_MODE", "often"),
        ("REDIS_HOST", "redis:6379/0 "),
        ("HOST", "a b"),
        ("STORED_PER_USER", "2 gigabytes"),
        ("STORED_PER_USER", "2PB"),
        ("QUOTAS", "ada=5"),
        ("QUOTAS", "ada.pods=5"),
        ("QUOTAS", ".sessions=5"),
        ("QUOTAS", "ada.sessions=many"),
        ("QUOTAS", "ada.sessions"),
        ("DATA_DIR", "a\nb"),
        ("ENVIRONMENT", "a\x00b"),
    ],
)
def test_other_kinds(variable: str, text: str):
    rejected(variable, text)


@pytest.mark.parametrize(
    ("variable", "text", "noun", "expected"),
    [
        ("RATE_LIMIT_CHAT", "5 per lunch", "rate", "for example 100/minute or off"),
        ("RATE_LIMIT_DEFAULT", "5/second;100/minute", "rate", "for example 100/minute or off"),
        ("TRUSTED_PROXIES", "10.0.0.0/99", "network", "comma-separated networks like 10.0.0.0/8"),
        ("SESSION_MANAGER_URL", "a:8080", "address", "a URL like https://sessions.example:8080"),
        ("SESSIONS_NAMESPACE", "Not_one", "namespace", "a lower-case DNS label of at most 63 characters"),
        ("USER_POD_IMAGE", "an image", "image", "a reference like registry.example/agent:1.2"),
        ("WRITER_YIELDS", "maybe", "flag", "true or false"),
        ("SESSION_RUNTIME", "docker", "runtime", "process or kubernetes"),
        ("PORT", "70000", "port", "a whole number from 0 to 65535"),
        ("USER_POD_PORT", "0", "port", "a whole number from 1 to 65535"),
        ("LEASE", "nan", "number of seconds", "0.001 to 86400"),
        ("MAX_WAKES", "1.5", "number", "a whole number from 1 to 100000"),
        ("REDIS_HOST", "redis:6379/0", "host", "a name or an IP address without a port"),
        ("WRITER_LEASE", "0.5", "number of seconds", "1 to 86400, or 0 for no lease"),
    ],
)
def test_the_error_says_what_was_expected(variable: str, text: str, noun: str, expected: str):
    assert rejected(variable, text) == f'{variable}: invalid {noun} "{text}"; expected {expected}'


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("ada.sessions=x", "a whole number, or off, after sessions="),
        ("ada.stored=x", "a size like 500MB or 2GB, or off, after stored="),
        ("ada.pods=5", "user.name=value, where name is sessions, "),
        (".sessions=5", "a user before .sessions, which must be 1 to "),
    ],
)
def test_the_wrong_entry_of_a_list_of_limits_is_named(entry: str, expected: str):
    assert rejected("QUOTAS", f"bob.awake=5, {entry}").startswith(
        f'QUOTAS: invalid limit "{entry}"; expected {expected}'
    )


@pytest.mark.parametrize(
    "text",
    [
        "web",
        "web:short",
        f"local:{KEY}",
        f"anonymous@ada:{KEY}",
        f"web|user|ada:{KEY}",
        f"web@:{KEY}",
        f"web@a\x07b:{KEY}",
        f"web:{KEY},web:{KEY}2",
        f":{KEY}",
    ],
)
def test_keys_are_checked_and_never_shown(text: str):
    line = rejected("SESSION_API_KEYS", text)
    assert "horse" not in line
    assert "short" not in line


def test_a_password_in_the_wrong_setting_is_not_shown():
    assert rejected("REDIS_HOST", "ada:s3cret@redis.example") == (
        "REDIS_HOST: invalid host; expected a name or an IP address without a port"
    )


def test_keys_are_parsed():
    keys = Settings.from_environment(session_api_keys=f"web:{KEY}:x, ada-app@urn%3Aada:{KEY},").server.api_keys
    assert [(key.caller, key.user) for key in keys] == [("web", None), ("ada-app", "urn:ada")]
    assert keys[0].secret.get_secret_value() == f"{KEY}:x"


def test_the_first_retry_comes_before_the_last():
    with pytest.raises(StartupFailure, match=r'^RETRY_FIRST: invalid number of seconds "9"; expected RETRY_LAST \(8\)'):
        Settings.from_environment(retry_first=9, retry_last="8")


def test_the_first_retry_is_capped_by_the_last_if_only_the_last_is_set():
    times = ScalerTimes.from_settings(Settings.from_environment(retry_last=3))
    assert Backoff(times.retry_first, times.retry_last).pause(1) == 3


@given(st.sampled_from(sorted(DECLARED)), st.text(max_size=20))
@hypothesis_settings(max_examples=500, deadline=None, database=None)
def test_any_text_is_a_value_or_one_line(variable: str, text: str):
    try:
        Settings.from_environment(**{variable.lower(): text})
    except StartupFailure:
        assert rejected(variable, text).isprintable()


def test_the_environment_wins_over_the_file_and_options_over_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settings, "DOT_ENV", tmp_path / ".env")
    (tmp_path / ".env").write_text("PORT=1\nHOST=one\nLEASE=3\nother=x\n")
    monkeypatch.setenv("port", "2")
    monkeypatch.setenv("HOST", "")
    found = Settings.from_environment(lease=4, data_dir=None)
    assert (found.server.port, found.server.host, found.sessions.lease) == (2, "one", 4.0)
    assert found.given == {"PORT", "HOST", "LEASE"}


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settings, "DOT_ENV", tmp_path / ".env")
    (tmp_path / ".env").write_bytes(b"PORT=\xff")
    with pytest.raises(StartupFailure, match=r"\.env"):
        Settings.from_environment()


def test_a_copy_with_other_values():
    first = Settings.from_environment(session_ttl=5)
    second = first.updated("redis", url=SecretStr("redis://x")).updated("server", port=3)
    assert (second.sessions.ttl, second.server.port) == (5.0, 3)
    assert second.given == {"SESSION_TTL", "REDIS_URL", "PORT"}
    assert first.server.port is None
    with pytest.raises(TypeError):
        Settings.from_environment(no_such_setting=1)


def test_quotas_hold_for_every_user_and_some_users_have_others():
    quotas = Settings.from_environment(
        sessions_per_user="off",
        awake_per_user="3",
        stored_per_user="2GB",
        quotas="ada.sessions=5, o.brien@example.com.stored=1KiB,ada.awake=off",
    ).quotas.by_user
    assert (quotas.default.sessions, quotas.default.awake, quotas.default.stored) == (0, 3, 2 * 10**9)
    assert quotas.of("eve") == quotas.default
    assert quotas.of("ada") == quotas.default._replace(sessions=5, awake=0)
    assert quotas.of("o.brien@example.com") == quotas.default._replace(stored=1024)
    assert (quotas.smallest.sessions, quotas.smallest.awake, quotas.smallest.stored) == (5, 3, 1024)
