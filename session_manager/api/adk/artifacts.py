"""ADK's routes of artifacts: versioned parts of a session, or of its user where a name begins with ``user:``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic_core import from_json, to_json

from session_manager.api.adk.access import Access, Asked, counted, located
from session_manager.api.adk.bodies import Route, SaveArtifact
from session_manager.api.adk.errors import missing
from session_manager.api.adk.sessions import JSON, SESSION
from session_manager.api.limits import RouteLimits
from session_manager.domain.adk.artifacts import MAX_REFERENCES, REMOVED, address, follow, media_type, reference_of
from session_manager.domain.adk.events import PART
from session_manager.domain.adk.model import AdkKey
from session_manager.domain.errors import InvalidInput, NotFound
from session_manager.store.adk import Artifact
from session_manager.wiring.services import Services

ARTIFACTS = SESSION + "/artifacts"
ARTIFACT = ARTIFACTS + "/{artifact_name:path}"
NO_ARTIFACT = "Artifact not found"
NO_VERSION = "Artifact version not found"
MOST_VERSIONS = 2**31


def router(services: Services, limits: RouteLimits) -> APIRouter:
    routes = APIRouter(tags=["artifacts"], route_class=Route)
    _add_saving(routes, services, limits)
    _add_versions(routes, services, limits)
    _add_loading(routes, services, limits)  # last: names may hold slashes, and would take the others' paths
    return routes


def _add_saving(routes: APIRouter, services: Services, limits: RouteLimits) -> None:
    @routes.post(ARTIFACTS, dependencies=counted(limits.change))
    async def save_artifact(access: Access, session_id: str, body: SaveArtifact) -> dict[str, Any]:
        """Save the next version of an artifact."""
        name = _name(body.filename)
        key = await located(services, access, session_id)
        metadata = to_json(body.custom_metadata or {}).decode()
        kind = media_type(body.artifact, key)
        new = Artifact(name, 0, PART.stored(body.artifact), kind, metadata, 0.0)
        return _described(key, await services.store.save_artifact(key, new))

    @routes.get(ARTIFACTS, dependencies=counted(limits.read))
    async def list_artifact_names(access: Access, session_id: str) -> list[str]:
        """Names of the session's and of the user's artifacts."""
        try:
            return await services.store.artifact_names(access.key(session_id))
        except NotFound:
            return []


def _name(filename: str) -> str:
    if not filename or len(filename) > 1024 or not filename.isprintable():
        raise InvalidInput("filename: must be 1 to 1024 printable characters", "filename")
    return filename


def _described(key: AdkKey, artifact: Artifact) -> dict[str, Any]:
    answer = {
        "version": artifact.version,
        "canonicalUri": address(key, artifact.name, artifact.version),
        "customMetadata": from_json(artifact.custom_metadata),
        "createTime": artifact.created,
    }
    return answer if artifact.mime_type is None else {**answer, "mimeType": artifact.mime_type}


def _add_versions(routes: APIRouter, services: Services, limits: RouteLimits) -> None:
    reading = counted(limits.read)

    async def versions(access: Asked, session_id: str, name: str) -> list[dict[str, Any]]:
        try:
            key = await located(services, access, session_id)
            return [_described(key, each) for each in await services.store.artifact_versions(key, _asked(name))]
        except NotFound:
            return []

    @routes.get(ARTIFACT + "/versions/{version_id}/metadata", dependencies=reading)
    async def get_artifact_version_metadata(
        access: Access, session_id: str, artifact_name: str, version_id: str
    ) -> dict[str, Any]:
        wanted = _number(version_id)
        found = await versions(access, session_id, artifact_name)
        fitting = [each for each in found if wanted in (None, each["version"])]
        if not fitting:
            raise HTTPException(404, NO_VERSION)
        return fitting[-1]

    @routes.get(ARTIFACT + "/versions/metadata", dependencies=reading)
    async def list_artifact_versions_metadata(
        access: Access, session_id: str, artifact_name: str
    ) -> list[dict[str, Any]]:
        return await versions(access, session_id, artifact_name)

    @routes.get(ARTIFACT + "/versions", dependencies=reading)
    async def list_artifact_versions(access: Access, session_id: str, artifact_name: str) -> list[int]:
        return [each["version"] for each in await versions(access, session_id, artifact_name)]


def _number(version_id: str) -> int | None:
    if version_id == "latest":
        return None
    try:
        return int(version_id)
    except ValueError:
        raise HTTPException(422, "Invalid version ID") from None


def _add_loading(routes: APIRouter, services: Services, limits: RouteLimits) -> None:
    reading = counted(limits.read)

    @routes.get(ARTIFACT + "/versions/{version_id}", dependencies=reading)
    async def load_artifact_version(access: Access, session_id: str, artifact_name: str, version_id: str) -> Response:
        return await _load(services, access, session_id, artifact_name, _number(version_id))

    @routes.get(ARTIFACT, dependencies=reading)
    async def load_artifact(
        access: Access, session_id: str, artifact_name: str, version: Annotated[int | None, Query()] = None
    ) -> Response:
        """The artifact, or one of its versions."""
        return await _load(services, access, session_id, artifact_name, version)

    @routes.delete(ARTIFACT, dependencies=counted(limits.change))
    async def delete_artifact(access: Access, session_id: str, artifact_name: str) -> None:
        """Remove all versions; null also where there are none."""
        try:
            await services.store.delete_artifact(access.key(session_id), _asked(artifact_name))
        except NotFound:
            return


async def _load(services: Services, access: Asked, session_id: str, name: str, version: int | None) -> Response:
    with missing(NO_ARTIFACT):
        part = await _resolved(services, await located(services, access, session_id), name, version)
    if not part or part == REMOVED:
        raise HTTPException(404, NO_ARTIFACT)
    return Response(PART.rest(part), media_type=JSON)


async def _resolved(services: Services, key: AdkKey, name: str, version: int | None) -> dict[str, Any]:
    """The part, at the end of its references. NotFound, InvalidInput where they do not end."""
    for _ in range(MAX_REFERENCES + 1):
        if version is not None and not 0 <= version < MOST_VERSIONS:
            raise NotFound
        found = await services.store.artifact(key, _asked(name), version)
        part: dict[str, Any] = from_json(found.part)
        if reference_of(part) is None:
            return part
        _, _, _, name, version = follow(part, key)
    raise InvalidInput("artifact: the references do not end", "artifact")


def _asked(name: str) -> str:
    if "\0" in name:
        raise NotFound
    return name
