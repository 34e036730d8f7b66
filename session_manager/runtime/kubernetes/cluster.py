"""A thin client for one namespace of a Kubernetes API: JSON objects in, JSON objects out.

The official client finds the address, certificates and tokens, and renews the tokens.  Its generated models are not
used: they cost more time and memory than everything else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
import orjson
from kubernetes.aio import client, config

from session_manager.domain.errors import StartupFailure, Unavailable
from session_manager.domain.values import Json
from session_manager.runtime.kubernetes import names

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=10)  # seconds
WATCH_SECONDS = 50  # the server ends a watch after this time
SILENCE = 60.0  # seconds without a byte after which a watch is dead; bookmarks and the regular end come sooner
LIST_PAGE = 500
CONNECTIONS = 64  # at once, including watches; with the client's default of 5 per core, wakes wait for each other


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object: the path of its API and its plural name."""

    api: str
    plural: str


SESSIONS = Resource(f"apis/{names.API_VERSION}", names.SESSIONS)
CLASSES = Resource(f"apis/{names.API_VERSION}", names.CLASSES)
DEPLOYMENTS = Resource("apis/apps/v1", "deployments")
SERVICES = Resource("api/v1", "services")
PODS = Resource("api/v1", "pods")
CLAIMS = Resource("api/v1", "persistentvolumeclaims")
EVENTS = Resource("api/v1", "events")
SCALED_OBJECTS = Resource(f"apis/{names.KEDA_API_VERSION}", "scaledobjects")


class ApiError(Exception):
    """The API server rejected a request. ``reason`` is a CamelCase word of Kubernetes."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class ApiNotFound(ApiError):
    """404: the object or its kind does not exist."""


class ApiConflict(ApiError):
    """409: the object exists already, or is not the expected one."""


class ApiInvalid(ApiError):
    """422: the object is invalid, or a ``test`` of a JSON patch failed."""


class ApiExpired(ApiError):
    """410: the resource version is too old; list again."""


class ApiBroken(Unavailable):
    """401, 429 or 5xx: the server, or a webhook that it asks, did not do its work. ``words``: those of the server."""

    def __init__(self, words: str) -> None:
        super().__init__("The Kubernetes API is overloaded or broken")
        self.words = words


_ERRORS = {404: ApiNotFound, 409: ApiConflict, 410: ApiExpired, 422: ApiInvalid}


class Cluster:
    """Raises ApiError if the server rejects a request, Unavailable if it cannot be reached or is overloaded."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self._client: client.ApiClient | None = None

    async def start(self) -> None:
        """Find the API by KUBECONFIG or ~/.kube/config, else by the pod's service account.

        Raises StartupFailure if there is neither.
        """
        configuration = client.Configuration()
        files = config.KUBE_CONFIG_DEFAULT_LOCATION.split(":")
        try:
            if any(Path(file).expanduser().exists() for file in files):
                await config.load_kube_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            else:
                config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except config.ConfigException as error:
            raise StartupFailure(f"no Kubernetes API is configured: {error}") from None
        configuration.client_session_kwargs = {"trust_env": has_proxy(configuration.host)}
        configuration.connection_pool_maxsize = CONNECTIONS
        self._client = client.ApiClient(configuration)

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()  # type: ignore[no-untyped-call]
            self._client = None

    # -- objects -----------------------------------------------------------------------------------------------------

    async def get(self, resource: Resource, name: str, subresource: str = "") -> Json:
        return await self._json("GET", self._path(resource, name, subresource))

    async def list(self, resource: Resource, selector: str = "", fields: str = "") -> tuple[list[Json], str]:
        """Return all objects, and the resource version from which to watch. ``fields``: a field selector."""
        query = {"labelSelector": selector, "fieldSelector": fields, "limit": str(LIST_PAGE)}
        items: list[Json] = []
        while True:
            page = await self._json("GET", self._path(resource), query)
            items += page["items"]
            metadata = page["metadata"]
            if not metadata.get("continue"):
                return items, metadata["resourceVersion"]
            query["continue"] = metadata["continue"]

    async def create(self, resource: Resource, body: Json, manager: str) -> Json:
        """Create an object. Raises ApiConflict if it exists."""
        return await self._json("POST", self._path(resource), {"fieldManager": manager}, body)

    async def try_create(self, resource: Resource, body: Json, manager: str) -> None:
        """Let the server check everything that it would check on a creation, and create nothing. Raises ApiError."""
        query = {"fieldManager": manager, "dryRun": "All"}
        await self._json("POST", self._path(resource), query, body)

    async def apply(self, resource: Resource, body: Json, manager: str) -> Json:
        """Apply on the server side: ``manager`` owns the fields in ``body`` and no others."""
        path = self._path(resource, body["metadata"]["name"])
        query = {"fieldManager": manager, "force": "true"}
        return await self._json("PATCH", path, query, body, "application/apply-patch+yaml")

    async def json_patch(self, resource: Resource, name: str, patch: Iterable[Json], manager: str) -> Json:
        """Apply the whole patch or nothing. Raises ApiInvalid if one of its tests fails."""
        path = self._path(resource, name)
        return await self._json("PATCH", path, {"fieldManager": manager}, list(patch), "application/json-patch+json")

    async def merge_patch(
        self, resource: Resource, name: str, patch: Json, manager: str, subresource: str = ""
    ) -> Json:
        """Merge the patch. Raises ApiConflict if it names a resource version that is no longer the current one."""
        path = self._path(resource, name, subresource)
        return await self._json("PATCH", path, {"fieldManager": manager}, patch, "application/merge-patch+json")

    async def delete(
        self, resource: Resource, name: str, *, uid: str, version: str | None = None, grace: int | None = None
    ) -> None:
        """Delete exactly this object; ``version`` is its resource version. Succeed if it is gone already.

        Raises ApiConflict if another object has the name, or if the version has changed.
        """
        preconditions = {"uid": uid} if version is None else {"uid": uid, "resourceVersion": version}
        body: Json = {"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": preconditions}
        if grace is not None:
            body["gracePeriodSeconds"] = grace
        with suppress(ApiNotFound):
            await self._json("DELETE", self._path(resource, name), None, body)

    async def serves(self, resource: Resource) -> bool:
        """Return True if the cluster serves this kind of object."""
        try:
            found = await self._json("GET", f"/{resource.api}")
        except ApiNotFound:
            return False
        return any(each["name"] == resource.plural for each in found["resources"])

    async def logs(self, pod: str, tail: int) -> str:
        """Return the last lines of the agent's container; the pod may have others."""
        query = {"container": names.CONTAINER, "tailLines": str(tail)}
        response = await self._request("GET", self._path(PODS, pod, "log"), query)
        return (await response.read()).decode(errors="replace")

    async def watch(self, resource: Resource, version: str, selector: str, fields: str = "") -> AsyncIterator[Json]:
        """Yield the events after ``version`` until the server ends the watch. Raises TimeoutError on silence.

        The first event is a bookmark of ``version``: the server has accepted the watch.
        """
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "labelSelector": selector,
            "fieldSelector": fields,
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=REQUEST_TIMEOUT.total)
        response = await self._request("GET", self._path(resource), query, timeout=timeout)
        try:
            yield {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}
            while True:
                async with asyncio.timeout(SILENCE):
                    line = await response.content.readline()
                if not line:
                    return
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    raise _error(event["object"].get("code", 500), orjson.dumps(event["object"]))
                yield event
        except aiohttp.ClientError as error:
            raise Unavailable("The Kubernetes API broke off a watch") from error
        finally:
            response.close()

    # -- requests ----------------------------------------------------------------------------------------------------

    def _path(self, resource: Resource, name: str = "", subresource: str = "") -> str:
        path = f"/{resource.api}/namespaces/{self.namespace}/{resource.plural}"
        return "/".join(part for part in (path, name, subresource) if part)

    async def _json(
        self, method: str, path: str, query: dict[str, str] | None = None, body: object = None, kind: str = ""
    ) -> Json:
        response = await self._request(method, path, query, body, kind)
        found: Json = orjson.loads(await self._read(response))
        return found

    async def _request(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: object = None,
        kind: str = "",
        timeout: aiohttp.ClientTimeout = REQUEST_TIMEOUT,
    ) -> aiohttp.ClientResponse:
        if self._client is None:
            raise Unavailable("The Kubernetes API is not connected")
        headers = {"Accept": "application/json", "Content-Type": kind or "application/json"}
        await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, method, body)
        found = {key: value for key, value in (query or {}).items() if value}
        url = f"{self._client.configuration.host}{path}{'?' + urlencode(found) if found else ''}"
        try:
            answer = await self._client.call_api(method, url, headers, body, _request_timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise Unavailable("The Kubernetes API cannot be reached") from error
        response: aiohttp.ClientResponse = answer.response
        if response.status >= 400:
            raise _error(response.status, await self._read(response))
        return response

    @staticmethod
    async def _read(response: aiohttp.ClientResponse) -> bytes:
        try:
            return await response.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise Unavailable("The Kubernetes API broke off its answer") from error


def has_proxy(url: str) -> bool:
    """Return True if the environment names a proxy for the URL. A check per request would take a third of its time."""
    parts = urlsplit(url)
    return parts.scheme in getproxies() and not proxy_bypass(parts.hostname or "")


def _error(status: int, body: bytes) -> Exception:
    try:
        found = orjson.loads(body)
        reason, message = found.get("reason", ""), found.get("message", "")
    except (orjson.JSONDecodeError, AttributeError):
        reason, message = "", body[:200].decode(errors="replace")
    if status in {401, 429} or status >= 500:  # 401: the token was renewed, or its check is overloaded
        return ApiBroken(f"the Kubernetes API answered {status}: {message or reason or 'without a reason'}")
    return _ERRORS.get(status, ApiError)(status, reason, message)
