"""ADK's routes of artifacts: versioned parts of a session, or of its user where a name begins with ``user:``.

What is not found is NotFound here. The table of routes says how each route answers then.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import HTTPException, Query, Response
from pydantic_core import from_json, to_json

from session_manager.aio.beside import beside, by_size
from session_manager.api.adk.inputs import AdkUser, SaveArtifact, User
from session_manager.api.call import Call, CurrentCall
from session_manager.api.errors import JSON
from session_manager.domain.adk.artifacts import MAX_REFERENCES, REMOVED, address, follow, media_type, reference_of
from session_manager.domain.adk.events import PART
from session_manager.domain.adk.model import AdkKey
from session_manager.domain.errors import InvalidInput, NotFound, TooLarge
from session_manager.domain.session import Session
from session_manager.domain.values import Json
from session_manager.store.protocol import Artifact
from session_manager.wiring.services import Services

MOST_VERSIONS = 2**31
MAX_METADATA = 64 * 1024  # bytes; lists of versions show those of all of them


async def save_artifact(call: CurrentCall, user: User, session_id: str, body: SaveArtifact) -> Json:
    """Save the next version of an artifact."""
    name = body.filename
    if not 1 <= len(name) <= 1024 or not name.isprintable():
        raise InvalidInput("filename: must be 1 to 1024 printable characters", "filename")
    key = _key(await _session(call, user, session_id))
    new = await by_size(len(call.body), _artifact, name, body, key)
    return _described(key, await call.services.store.save_artifact(key, new, call.access))


def _artifact(name: str, body: SaveArtifact, key: AdkKey) -> Artifact:
    metadata = to_json(body.custom_metadata or {})
    if len(metadata) > MAX_METADATA:
        raise TooLarge(f"customMetadata: must be at most {MAX_METADATA} bytes of JSON")
    kind = media_type(body.artifact, key)
    return Artifact(name, 0, PART.stored(body.artifact), kind, metadata.decode(), 0.0)


async def list_artifact_names(call: CurrentCall, user: User, session_id: str) -> list[str]:
    """Names of the session's and of the user's artifacts."""
    return await call.services.store.artifact_names(await _session(call, user, session_id))


async def get_artifact_version_metadata(
    call: CurrentCall, user: User, session_id: str, artifact_name: str, version_id: str
) -> Json:
    wanted = _number(version_id)
    found = await _versions(call, user, session_id, artifact_name)
    fitting = [each for each in found if wanted in (None, each["version"])]
    if not fitting:
        raise NotFound
    return fitting[-1]


async def list_artifact_versions_metadata(
    call: CurrentCall, user: User, session_id: str, artifact_name: str
) -> list[Json]:
    return await _versions(call, user, session_id, artifact_name)


async def list_artifact_versions(call: CurrentCall, user: User, session_id: str, artifact_name: str) -> list[int]:
    return [each["version"] for each in await _versions(call, user, session_id, artifact_name)]


async def load_artifact_version(
    call: CurrentCall, user: User, session_id: str, artifact_name: str, version_id: str
) -> Response:
    return await _load(call, user, session_id, artifact_name, _number(version_id))


async def load_artifact(
    call: CurrentCall,
    user: User,
    session_id: str,
    artifact_name: str,
    version: Annotated[int | None, Query()] = None,
) -> Response:
    """The artifact, or one of its versions."""
    return await _load(call, user, session_id, artifact_name, version)


async def delete_artifact(call: CurrentCall, user: User, session_id: str, artifact_name: str) -> None:
    """Remove all versions. Answers null also if the artifact does not exist."""
    await call.services.store.delete_artifact(user.key(session_id), _known_name(artifact_name), call.access)


async def _session(call: Call, user: AdkUser, session_id: str) -> Session:
    """Return an existing session, whose id may lack the outer spaces of ``session_id``. Raises NotFound."""
    return await call.services.store.adk_record(user.key(session_id), call.access)


def _key(session: Session) -> AdkKey:
    return AdkKey(session.app, session.user_id, session.adk_id)


async def _versions(call: Call, user: AdkUser, session_id: str, name: str) -> list[Json]:
    session = await _session(call, user, session_id)
    found = await call.services.store.artifact_versions(session, _known_name(name))
    return [_described(_key(session), each) for each in found]


async def _load(call: Call, user: AdkUser, session_id: str, name: str, version: int | None) -> Response:
    part = await _resolved(call.services, await _session(call, user, session_id), name, version)
    if not part or part == REMOVED:
        raise NotFound
    return Response(await beside(PART.rest, part), media_type=JSON)


async def _resolved(services: Services, session: Session, name: str, version: int | None) -> Json:
    """Return the part at the end of its references. Raises NotFound, and InvalidInput for references in a circle."""
    for _ in range(MAX_REFERENCES + 1):
        if version is not None and not 0 <= version < MOST_VERSIONS:
            raise NotFound
        found = await services.store.artifact(session, _known_name(name), version)
        part: Json = await by_size(len(found.part), from_json, found.part)
        if reference_of(part) is None:
            return part
        _, _, _, name, version = follow(part, _key(session))
    raise InvalidInput("artifact: the references do not end", "artifact")


def _described(key: AdkKey, artifact: Artifact) -> Json:
    answer = {
        "version": artifact.version,
        "canonicalUri": address(key, artifact.name, artifact.version),
        "customMetadata": from_json(artifact.custom_metadata),
        "createTime": artifact.created,
    }
    return answer if artifact.mime_type is None else {**answer, "mimeType": artifact.mime_type}


def _number(version_id: str) -> int | None:
    """Return the number of a version, or None for the latest."""
    if version_id == "latest":
        return None
    try:
        return int(version_id)
    except ValueError:
        raise HTTPException(422, "Invalid version ID") from None


def _known_name(name: str) -> str:
    if "\0" in name:
        raise NotFound
    return name
