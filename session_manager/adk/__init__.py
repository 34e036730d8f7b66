"""What runs in ADK programs: a session service that keeps its sessions in Session Manager, and the server of a pod.

::

    # services.yaml beside the agents, then: adk api_server --session_service_uri session-manager://host:port agents
    services:
      - {scheme: session-manager, type: session, class: session_manager.adk.SessionManagerSessionService}

Needs ``session-manager[adk]``; the front door itself never imports this.
"""

from session_manager.adk.credentials import use_token

try:
    from session_manager.adk.service import SCHEMES, SessionManagerSessionService, register
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("google", "httpx"):
        raise
    # A pod's last words are what its session shows as the reason.
    needs = "google-adk is not installed: pip install 'session-manager[adk]', for the Python of Session Manager"
    raise ModuleNotFoundError(needs, name=error.name) from None

__all__ = ["SCHEMES", "SessionManagerSessionService", "register", "use_token"]
