"""An ADK agent without a model. It keeps notes in the state of its user, so that all sessions of this user share them.

As the pod of a session: ``python -m session_manager.adk examples/adk`` is the command of its class. Its sessions are
kept by Session Manager; with a model it would be an ``LlmAgent`` here, and nothing else would change.
"""

from collections.abc import AsyncGenerator

from google.adk.agents import BaseAgent
from google.adk.agents.invocation_context import InvocationContext
from google.adk.events import Event, EventActions
from google.genai import types

NOTES = "user:notes"


class Notebook(BaseAgent):
    async def _run_async_impl(self, ctx: InvocationContext) -> AsyncGenerator[Event, None]:
        parts = (ctx.user_content.parts if ctx.user_content else None) or []
        said = "".join(part.text or "" for part in parts).strip()
        notes = [*ctx.session.state.get(NOTES, [])]
        word, _, rest = said.partition(" ")
        if word == "note" and rest:
            notes.append(rest)
            yield self._say(ctx, f"Noted, as number {len(notes)}.", {NOTES: notes})
            return
        for number, note in enumerate(notes, 1):
            yield self._say(ctx, f"{number}. {note}\n", partial=True)
        listed = "".join(f"{number}. {note}\n" for number, note in enumerate(notes, 1))
        yield self._say(ctx, listed or "Nothing yet. Say: note milk")

    def _say(
        self, ctx: InvocationContext, text: str, delta: dict[str, object] | None = None, partial: bool | None = None
    ) -> Event:
        return Event(
            invocation_id=ctx.invocation_id,
            author=self.name,
            content=types.Content(role="model", parts=[types.Part(text=text)]),
            actions=EventActions(state_delta=delta or {}),
            partial=partial,
        )


root_agent = Notebook(name="notebook")
