"""A real Runner uses our database: it talks and rewinds, and we read the result."""

from __future__ import annotations

import warnings
from collections.abc import AsyncGenerator

from session_manager.domain.adk.model import AdkKey
from session_manager.store.sql import SqlStore
from tests.adk.store.made import texts
from tests.adk.store.real import Event, Peers, adk_event, get, same, text_content

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from google.adk.agents.base_agent import BaseAgent
    from google.adk.agents.invocation_context import InvocationContext
    from google.adk.runners import Runner


class Counter(BaseAgent):
    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        count = ctx.session.state.get("count", 0) + 1
        delta = {"count": count, "user:last": count}
        yield adk_event(f"turn {count}", delta, author=self.name, invocation_id=ctx.invocation_id)


async def test_a_runner_talks_and_rewinds(store: SqlStore, peers: Peers) -> None:
    async with peers() as [service]:
        runner = Runner(app_name="app", agent=Counter(name="counter"), session_service=service)
        session = await service.create_session(app_name="app", user_id="ann", state={"count": 10})
        key = AdkKey("app", "ann", session.id)
        for text in ("one", "two", "three"):
            async for _ in runner.run_async(user_id="ann", session_id=session.id, new_message=text_content(text)):
                pass
        ours = await store.adk_get(key)
        assert texts(ours.events) == ["one", "turn 11", "two", "turn 12", "three", "turn 13"]
        assert (ours.state["count"], ours.state["user:last"]) == (13, 13)
        second = (await get(service, key)).events[2].invocation_id
        await runner.rewind_async(user_id="ann", session_id=session.id, rewind_before_invocation_id=second)
        ours = await store.adk_get(key)
        assert (ours.state["count"], ours.state["user:last"], len(ours.events)) == (11, 13, 7)
        same(await get(service, key), ours)
