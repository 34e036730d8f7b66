"""The client that speaks what the class of a pod says."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from session_manager.domain.session_class import PodProtocol, SessionClass
from session_manager.podclient.protocol import DeltaListener, PodClient, TurnReply, TurnRequest
from session_manager.runtime.protocol import Address


class PodsByProtocol:
    def __init__(self, http: PodClient, adk: PodClient) -> None:
        self._http = http
        self._adk = adk

    async def start(self) -> None:
        await self._http.start()
        await self._adk.start()

    async def close(self) -> None:
        await self._http.close()
        await self._adk.close()

    def chat(
        self, address: Address, session_class: SessionClass, request: TurnRequest, on_delta: DeltaListener
    ) -> Coroutine[Any, Any, TurnReply]:
        pods = self._adk if session_class.protocol is PodProtocol.ADK else self._http
        return pods.chat(address, session_class, request, on_delta)

    def drop(self, uid: str) -> None:
        self._http.drop(uid)
        self._adk.drop(uid)
