"""The address and the credentials of Redis, from the settings."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, unquote, urlsplit

from session_manager.domain.errors import StartupFailure
from session_manager.settings import Settings

_FORM = "invalid REDIS_URL; expected redis://user:password@host:port/0, or rediss:// for TLS"


@dataclass(frozen=True, slots=True)
class Target:
    """A server, its credentials and database. Its string never shows the password."""

    host: str
    port: int
    username: str = ""
    password: str = field(default="", repr=False)
    database: int = 0
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    tls_options: str = ""

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def from_settings(cls, settings: Settings) -> Target:
        """Use REDIS_URL, or else REDIS_HOST, REDIS_PORT and REDIS_PASSWORD."""
        if settings.redis.url is not None:
            return cls.from_url(settings.redis.url.get_secret_value())
        password = settings.redis.password.get_secret_value() if settings.redis.password else ""
        return cls(settings.redis.host, settings.redis.port, password=password)

    @classmethod
    def from_url(cls, url: str) -> Target:
        """Parse ``redis://`` or ``rediss://``, the latter with ``?ssl_ca_certs=FILE`` or ``?ssl_cert_reqs=none``."""
        try:
            parts = urlsplit(url)
            port = parts.port or 6379
            database = int(parts.path.strip("/") or 0)
        except ValueError:
            raise StartupFailure(_FORM) from None
        if parts.scheme not in ("redis", "rediss") or not parts.hostname:
            raise StartupFailure(_FORM)
        return cls(
            host=parts.hostname,
            port=port,
            username=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
            database=database,
            tls=_tls(parse_qs(parts.query)) if parts.scheme == "rediss" else None,
            tls_options=parts.query,
        )

    @property
    def url(self) -> str:
        """The URL for other clients of the same Redis. It contains the password."""
        user = f"{quote(self.username, safe='')}:{quote(self.password, safe='')}@" if self.password else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        scheme, options = ("rediss", f"?{self.tls_options}") if self.tls else ("redis", "")
        return f"{scheme}://{user}{host}:{self.port}/{self.database}{options.rstrip('?')}"

    def greeting(self) -> list[tuple[str | int, ...]]:
        """Return the commands that open a connection."""
        commands: list[tuple[str | int, ...]] = []
        if self.password:
            commands.append(("AUTH", self.username, self.password) if self.username else ("AUTH", self.password))
        if self.database:
            commands.append(("SELECT", self.database))
        return commands


def _tls(options: dict[str, list[str]]) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs", [None])[0])
    except OSError as error:
        raise StartupFailure(f"The file in REDIS_URL's ssl_ca_certs cannot be read: {error.strerror}") from None
    if options.get("ssl_cert_reqs") == ["none"]:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
