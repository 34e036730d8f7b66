"""Artifacts and memory, which ADK keeps beside sessions."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from session_manager.domain.access import EVERYTHING
from session_manager.domain.errors import NotFound
from session_manager.store.protocol import Artifact
from session_manager.store.sql import SqlStore
from tests.adk.store.made import event, made, new_key, texts
from tests.store.databases import Opened


def artifact(name: str = "report.txt", part: str = '{"text": "ü"}', mime_type: str | None = "text/plain") -> Artifact:
    return Artifact(name, 77, part, mime_type, '{"by": "me"}', 0.0)


async def test_versions_count_from_0(store: SqlStore) -> None:
    key = await made(store)
    saved = [await store.save_artifact(key, artifact(part=f'{{"text": "{n}"}}')) for n in range(3)]
    assert [each.version for each in saved] == [0, 1, 2]
    assert all(0 < before.created <= after.created for before, after in pairwise(saved))
    assert await store.artifact(await store.adk_record(key), "report.txt") == saved[2]
    assert await store.artifact(await store.adk_record(key), "report.txt", 0) == saved[0]
    described = await store.artifact_versions(await store.adk_record(key), "report.txt")
    assert [(each.version, each.part) for each in described] == [(0, ""), (1, ""), (2, "")]
    assert {(each.mime_type, each.custom_metadata) for each in described} == {("text/plain", '{"by": "me"}')}


async def test_unknown_artifacts(store: SqlStore) -> None:
    key = await made(store)
    await store.save_artifact(key, artifact("a", mime_type=None))
    for name, version in (("b", None), ("a", 1), ("a", -1)):
        with pytest.raises(NotFound, match="No such artifact"):
            await store.artifact(await store.adk_record(key), name, version)
    assert await store.artifact_versions(await store.adk_record(key), "b") == []
    await store.delete_artifact(key, "b")
    for call in (store.save_artifact(new_key(), artifact()), store.delete_artifact(new_key(), "a")):
        with pytest.raises(NotFound):
            await call


async def test_user_artifacts_are_shared_by_the_sessions_of_a_user(store: SqlStore) -> None:
    first, second, stranger = await made(store), await made(store), await made(store, new_key(user="bob"))
    await store.save_artifact(first, artifact("user:profile"))
    await store.save_artifact(first, artifact("mine"))
    assert (await store.save_artifact(second, artifact("user:profile"))).version == 1
    assert await store.artifact_names(await store.adk_record(first)) == ["mine", "user:profile"]
    assert await store.artifact_names(await store.adk_record(second)) == ["user:profile"]
    assert await store.artifact_names(await store.adk_record(stranger)) == []
    await store.delete_session((await store.adk_record(first)).uuid, EVERYTHING)
    assert (await store.artifact(await store.adk_record(second), "user:profile")).version == 1
    await store.delete_artifact(second, "user:profile")
    assert await store.artifact_names(await store.adk_record(second)) == []


async def test_artifacts_are_deleted_with_their_session(opened: Opened, store: SqlStore) -> None:
    key = await made(store)
    await store.save_artifact(key, artifact())
    await store.delete_session((await store.adk_record(key)).uuid, EVERYTHING)
    assert await opened.database.rows("SELECT * FROM artifact") == []
    await made(store, key)
    assert await store.artifact_names(await store.adk_record(key)) == []


async def test_concurrent_saves_get_a_version_each(opened: Opened, store: SqlStore) -> None:
    key, other = await made(store), await opened()
    keys = [key, await made(store)]
    for name in ("own", "user:shared"):
        saved = await asyncio.gather(
            *(
                [store, other][n % 2].save_artifact(keys[n // 4 if name != "own" else 0], artifact(name))
                for n in range(8)
            )
        )
        assert sorted(each.version for each in saved) == list(range(8))


async def test_memory_is_searched_by_word(store: SqlStore) -> None:
    key, other, stranger = await made(store), await made(store), await made(store, new_key(user="bob"))
    await store.adk_append(key, [event(1, text="The Straße is long."), event(2, text="A cat_fish, catfish, CAT!")])
    await store.adk_append(
        other, [event(3, text="The cat again"), event(4, data='{"content": null}'), event(5, text="")]
    )
    await store.adk_append(stranger, [event(6, text="cat")])
    assert await store.search_memory("app", "ann", "cat", 9) == [], "nothing was remembered yet"
    for each in (key, other, stranger):
        await store.remember(each)
        await store.remember(each)

    async def found(query: str, limit: int = 9) -> list[str]:
        return texts(await store.search_memory("app", "ann", query, limit))

    assert await found("cat") == ["The cat again", "A cat_fish, catfish, CAT!"]
    assert await found("CAT?", 1) == ["The cat again"]
    assert await found("straße") == ["The Straße is long."]
    assert await found("cat_fish") == ["A cat_fish, catfish, CAT!"]
    assert await found("nothing like catxfish") == []
    assert await found("% _ ' \\") == []
    assert await found("long again") == ["The cat again", "The Straße is long."]


async def test_later_events_are_remembered_by_the_next_call(store: SqlStore) -> None:
    key = await made(store)
    await store.adk_append(key, [event(1, text="one word")])
    await store.remember(key)
    await store.adk_append(key, [event(2, text="another word")])
    assert texts(await store.search_memory("app", "ann", "word", 9)) == ["one word"]
    await store.remember(key)
    assert texts(await store.search_memory("app", "ann", "word", 9)) == ["another word", "one word"]
