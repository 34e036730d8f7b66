"""An agent without a model: each word of the message is something it does."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from google.adk.agents import BaseAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events import Event, EventActions
from google.genai import types


class Tester(BaseAgent):
    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        said = "".join(part.text or "" for part in (ctx.user_content.parts if ctx.user_content else None) or [])
        what, _, rest = said.partition(" ")
        act = getattr(self, f"_{what}", None)
        if act is None:
            yield self._event(ctx, f"You said {said}")
            return
        async for event in act(ctx, rest):
            yield event

    def _event(self, ctx: InvocationContext, text: str, **fields: Any) -> Event:
        content = types.Content(role="model", parts=[types.Part(text=text)])
        return Event(invocation_id=ctx.invocation_id, author=self.name, content=content, **fields)

    async def _stream(self, ctx: InvocationContext, text: str) -> AsyncGenerator[Event, None]:
        for word in text.split():
            yield self._event(ctx, word, partial=True)
        yield self._event(ctx, text)

    async def _count(self, ctx: InvocationContext, _: str) -> AsyncGenerator[Event, None]:
        """Yield the earlier texts, and a count that is kept in the state."""
        count = ctx.session.state.get("count", 0) + 1
        history = [part.text for each in ctx.session.events if each.content for part in each.content.parts or []]
        delta = {"count": count, "user:name": "Ada", "temp:scratch": 1}
        yield self._event(ctx, f"{count}: {history}", actions=EventActions(state_delta=delta))

    async def _state(self, ctx: InvocationContext, key: str) -> AsyncGenerator[Event, None]:
        yield self._event(ctx, f"{key}={ctx.session.state.get(key)!r}")

    async def _fail(self, ctx: InvocationContext, _: str) -> AsyncGenerator[Event, None]:
        yield self._event(ctx, "so far")
        raise RuntimeError("no luck")

    async def _artifact(self, ctx: InvocationContext, text: str) -> AsyncGenerator[Event, None]:
        yield self._event(ctx, text, actions=EventActions(artifact_delta={"a.txt": 0}))

    async def _tool(self, ctx: InvocationContext, _: str) -> AsyncGenerator[Event, None]:
        call = types.FunctionCall(id="call-1", name="approve", args={"amount": 1.5})
        content = types.Content(role="model", parts=[types.Part(function_call=call)])
        yield Event(
            invocation_id=ctx.invocation_id, author=self.name, content=content, long_running_tool_ids={"call-1"}
        )

    async def _image(self, ctx: InvocationContext, size: str) -> AsyncGenerator[Event, None]:
        blob = types.Blob(mime_type="image/png", data=b"\xff" * int(size))
        content = types.Content(role="model", parts=[types.Part(inline_data=blob)])
        yield Event(invocation_id=ctx.invocation_id, author=self.name, content=content)

    async def _wait(self, ctx: InvocationContext, name: str) -> AsyncGenerator[Event, None]:
        """Wait until the file exists."""
        yield self._event(ctx, "waiting")
        while not Path(name).exists():
            await asyncio.sleep(0.02)
        yield self._event(ctx, "done")

    async def _die(self, ctx: InvocationContext, name: str) -> AsyncGenerator[Event, None]:
        """Once for each file of that name."""
        yield self._event(ctx, "about to die")
        if not Path(name).exists():
            Path(name).touch()
            os._exit(1)
        yield self._event(ctx, "alive again")


root_agent = Tester(name="tester")
