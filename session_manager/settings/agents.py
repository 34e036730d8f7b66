"""Values that are passed on to agents and not used otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from session_manager.settings.declared import setting
from session_manager.settings.kinds import SECRET, TEXT


@dataclass(frozen=True, slots=True)
class AgentSettings:
    environment: str = setting("ENVIRONMENT", TEXT, "development", "Free text.")
    gemini_api_key: SecretStr | None = setting("GEMINI_API_KEY", SECRET, None, "Key of Gemini.")
    gemini_model: str | None = setting("GEMINI_MODEL", TEXT, None, "Model of Gemini.")
    openai_api_key: SecretStr | None = setting("OPENAI_API_KEY", SECRET, None, "Key of OpenAI.")
    anthropic_api_key: SecretStr | None = setting("ANTHROPIC_API_KEY", SECRET, None, "Key of Anthropic.")
    google_api_key: SecretStr | None = setting("GOOGLE_API_KEY", SECRET, None, "Key of Google.")
