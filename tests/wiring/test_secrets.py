"""No part of a front door shows a secret in its repr, which logs and error reports of other tools may contain."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest

from session_manager.activity.protocol import Claim
from session_manager.activity.reconnecting import Target
from session_manager.activity.server import LocalRedis
from session_manager.api.call import Call
from session_manager.backup.packing import Keys
from session_manager.backup.postgres import Server
from session_manager.cli.remote import Remote
from session_manager.client import Client
from session_manager.databases.merging import DatabaseMerger
from session_manager.domain.access import Anonymous
from session_manager.domain.session_class import SessionClass
from session_manager.people.tokens import Tokens
from session_manager.podclient.protocol import TurnRequest
from session_manager.runtime.kubernetes.session_class import parse_class
from session_manager.runtime.process.pods import Pods
from session_manager.runtime.protocol import PodAddress
from session_manager.settings import Settings
from session_manager.settings.server import api_keys
from session_manager.store.postgres.adapter import PostgresStore
from session_manager.store.postgres.address import PostgresAddress
from session_manager.wiring.services import Services

SECRET = "aGlkZGVuIGhpZGRlbiBoaWRkZW4gaGlkZGVuIGhpZGQ="  # 32 bytes in base64, so that it is a key of backups, too
WORD = SECRET.rstrip("=")
POSTGRES = f"postgresql://me:{WORD}@127.0.0.1/facts"
REDIS = f"redis://:{WORD}@127.0.0.1:1/0"
ADDRESS = PodAddress("10.0.0.1", 80, "uid")
NOTHING: Any = None


def all_settings(tmp_path: Path, **more: str) -> Settings:
    keys = dict.fromkeys(("gemini_api_key", "openai_api_key", "anthropic_api_key", "google_api_key"), SECRET)
    return Settings.from_environment(
        **keys,
        **more,
        session_db_uri=POSTGRES,
        redis_url=REDIS,
        redis_password=SECRET,
        session_api_keys=f"web:{SECRET}",
        backup_encryption_keys=SECRET,
        storage_bucket=f"file://{tmp_path}/bucket",
        data_dir=str(tmp_path),
    )


def parts_of(root: object) -> list[object]:
    """Return all objects of this package that ``root`` reaches."""
    seen, found, waiting = {id(root)}, [root], [root]
    while waiting:
        for each in gc.get_referents(waiting.pop()):
            ours = type(each).__module__.startswith("session_manager")
            if id(each) not in seen and (ours or isinstance(each, dict | list | tuple | set)):
                seen.add(id(each))
                waiting.append(each)
                found += [each] if ours else []
    return found


async def test_no_part_of_a_front_door_shows_a_secret(tmp_path: Path) -> None:
    services = Services(all_settings(tmp_path, session_runtime="process"))
    parts = parts_of(services)
    names = {type(each).__name__ for each in parts}
    assert names >= {"PostgresStore", "Link", "Reconnecting", "Target", "Kit", "Tokens", "Pods", "Keys", "Settings"}
    assert [type(each).__name__ for each in parts if WORD in repr(each)] == []


KUBERNETES_CLASS = {
    "metadata": {"name": "x", "uid": "1"},
    "spec": {"image": "x", "env": [{"name": "KEY", "value": SECRET}]},
}
HOLDERS: dict[str, object] = {
    "store": PostgresStore(POSTGRES, 1),
    "address": PostgresAddress.parse(POSTGRES),
    "server": Server(POSTGRES),
    "merger": DatabaseMerger(POSTGRES),
    "redis": LocalRedis(Path("x"), 1, SECRET),
    "target": Target.from_url(REDIS),
    "target with TLS": Target.from_url(f"rediss://h/0?password={WORD}"),
    "API keys": api_keys(f"web:{SECRET}"),
    "backup keys": [Keys.parse(SECRET), Keys.parse(SECRET).first],
    "tokens": Tokens(NOTHING),
    "claim": Claim("s", "m", SECRET, fresh=True, replace=False, address=ADDRESS),
    "turn": TurnRequest("s", "ann", "m", 1, "hello", SECRET),
    "call": Call(NOTHING, None, Anonymous(""), {b"authorization": SECRET.encode()}, {}, "", SECRET.encode()),
    "command line": Remote("http://h", SECRET, None),
    "client": Client("http://h", SECRET),
    "class": SessionClass("x", env={"KEY": SECRET}),
    "class in Kubernetes": parse_class(KUBERNETES_CLASS, 1.0, 1.0),
    "pods": Pods(NOTHING, {"KEY": SECRET}, NOTHING, NOTHING),
}


@pytest.mark.parametrize("name", HOLDERS)
def test_no_holder_of_a_secret_shows_it(name: str) -> None:
    assert WORD not in repr(HOLDERS[name])
    assert WORD not in str(HOLDERS[name])
