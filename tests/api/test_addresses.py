"""One caller has one name, however its address is written."""

from __future__ import annotations

import pytest

from session_manager.people.addresses import MOST_HOPS, Proxies, caller_name
from session_manager.settings.kinds import networks

PROXIES = Proxies(networks("10.0.0.0/8, fd00::/8"))
NETWORK = "2001:db8:1:2::/64"


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("203.0.113.9", "203.0.113.9"),
        (" 203.0.113.9\t", "203.0.113.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ('"203.0.113.9:4711"', "203.0.113.9"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ("::FFFF:cb00:7109", "203.0.113.9"),
        ("[::ffff:203.0.113.9]:80", "203.0.113.9"),
        ("64:ff9b::203.0.113.9", "64:ff9b::/64"),  # of a network that is not global
        ("64:ff9b::9.9.9.9", "9.9.9.9"),
        ("64:ff9b::10.0.0.1", "64:ff9b::/64"),
        ("2001:db8:1:2::5", NETWORK),
        ("2001:0DB8:0001:0002:0000:0000:0000:0005", NETWORK),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", NETWORK),
        ("[2001:db8:1:2::5]", NETWORK),
        ("[2001:db8:1:2::5]:4711", NETWORK),
        ('"[2001:db8:1:2::5]:4711"', NETWORK),
        ("2001:db8:1:2::5%eth0", NETWORK),
        ("2001:db8:1:2::5%25eth0", NETWORK),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_an_address_has_one_name(written, name):
    assert caller_name(written) == name


@pytest.mark.parametrize(
    ("peer", "forwarded", "name"),
    [
        pytest.param("203.0.113.1", "9.9.9.9", "203.0.113.1", id="not from a proxy"),
        pytest.param("10.0.0.1", "9.9.9.9", "9.9.9.9", id="from a proxy"),
        pytest.param("10.0.0.1", "6.6.6.6, 9.9.9.9:1234, 10.0.0.7:80", "9.9.9.9", id="ports"),
        pytest.param("10.0.0.1", "6.6.6.6, [2001:DB8:1:2::9]:1234", NETWORK, id="IPv6 with a port"),
        pytest.param("::ffff:10.0.0.1", "::ffff:9.9.9.9", "9.9.9.9", id="IPv4 as IPv6"),
        pytest.param("fd00::1%eth0", "9.9.9.9", "9.9.9.9", id="zone of a proxy"),
        pytest.param("10.0.0.1", "10.0.0.3", "10.0.0.1", id="every hop is trusted"),
        pytest.param("10.0.0.1", "10.9.9.9, 10.0.0.3", "10.0.0.1", id="every hop is trusted, and made up"),
        pytest.param("10.0.0.1", "6.6.6.6, unknown", "10.0.0.1", id="no address"),
        pytest.param("10.0.0.1", "6.6.6.6, _hidden, 10.0.0.2", "10.0.0.1", id="no address, behind a proxy"),
        pytest.param("10.0.0.1", "6.6.6.6,", "10.0.0.1", id="empty hop"),
        pytest.param("10.0.0.1", "6.6.6.6,,9.9.9.9", "9.9.9.9", id="empty hop, not reached"),
        pytest.param("10.0.0.1", "010.1.1.1", "10.0.0.1", id="leading zero"),
        pytest.param("10.0.0.1", "9.9.9.9" + ":" * 70_000, "10.0.0.1", id="long"),
        pytest.param("10.0.0.1", "\xff\xfe", "10.0.0.1", id="bytes"),
        pytest.param("10.0.0.1", "6.6.6.6" + ", 10.0.0.2" * MOST_HOPS, "10.0.0.1", id="many hops"),
        pytest.param(
            "10.0.0.1", "6.6.6.6, 9.9.9.9" + ", 10.0.0.2" * (MOST_HOPS - 1), "9.9.9.9", id="as many as allowed"
        ),
    ],
)
def test_the_nearest_address_that_is_not_a_proxys(peer, forwarded, name):
    assert PROXIES.caller(forwarded.encode("latin-1"), peer) == name


def test_without_proxies_nobody_is_believed():
    assert Proxies(()).caller(b"9.9.9.9", "10.0.0.1") == "10.0.0.1"


async def test_spellings_of_a_forwarded_address_share_a_limit(start):
    door = await start(
        session_api_keys="web:service-key-0123456789", rate_limit_default="2/minute", trusted_proxies="127.0.0.1"
    )
    spelled = ["2001:db8:1:2::5", "[2001:DB8:1:2::6]:4711", "2001:db8:1:2:0::7%eth0", '"2001:db8:1:2::8"']
    statuses = [(await door.call("GET", "/health", headers={"X-Forwarded-For": each}))[0] for each in spelled]
    assert statuses == [200, 200, 429, 429]


async def test_another_header_for_addresses_is_ignored(start):
    door = await start(
        session_api_keys="web:service-key-0123456789", rate_limit_default="1/minute", trusted_proxies="127.0.0.1"
    )
    claimed = [{"Forwarded": "for=9.9.9.1"}, {"Forwarded": "for=9.9.9.2"}, {"X-Real-IP": "9.9.9.3"}]
    statuses = [(await door.call("GET", "/health", headers=each))[0] for each in claimed]
    assert statuses == [200, 429, 429]
