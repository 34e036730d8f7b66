"""For ADK programs: a session service that keeps its sessions in Session Manager, and a server for pods.

::

    # services.yaml beside the agents, then: adk api_server --session_service_uri session-manager://host:port agents
    services:
      - {scheme: session-manager, type: session, class: session_manager.adk.SessionManagerSessionService}

It needs the extra ``adk``. The front door never imports it.
"""

try:
    from session_manager.adk.client import use_token
    from session_manager.adk.service import SCHEMES, SessionManagerSessionService, register
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("google", "httpx"):
        raise
    # The last line that a pod prints is shown as the reason of its session.
    # It is written out, because nothing here imports the rest of Session Manager.
    needs = "ADK needs the extra adk: install Session Manager with it, pip install '.[adk]' in its folder"
    raise ModuleNotFoundError(needs, name=error.name) from None

__all__ = ["SCHEMES", "SessionManagerSessionService", "register", "use_token"]
