"""Every error that this package raises on purpose, in one tree.

::

    SessionManagerError
    ├── InvalidInput            400  a field that is missing, too long, of the wrong type
    ├── Unauthenticated         401  no credential, or one nobody issued
    ├── Forbidden               403  a caller that may not do this
    ├── NotFound                404  no such session or message, or one of somebody else
    ├── MethodNotAllowed        405  the path exists, the method does not
    ├── Conflict                409  the request contradicts the present state
    │   ├── IdempotencyMismatch      the same Idempotency-Key with another body
    │   ├── SessionBusy              a turn runs or waits
    │   ├── StaleSession             a writer of ADK events has an older copy of the session
    │   └── WrongMode                the mode of its resource forbids it: Suspended, AlwaysOn
    ├── TooLarge                413  a body over the limit
    ├── RateLimited             429  over a limit; says when to retry
    ├── NotSupported            501  this runtime cannot do that
    ├── Unavailable             503  a dependency is away; nothing was committed
    │   ├── StoreUnavailable         the SQL database
    │   ├── ActivityUnavailable      Redis
    │   │   └── AnotherMachine       Redis says that another machine's pods count
    │   └── NotTheWriter             another instance has, or may have, the right to write
    ├── BackupError             500  a backup or a restore that could not be made
    │   ├── BackupDamaged            what lies there is not what was stored
    │   ├── BackupNotForUs           other engine, a key that is not here, a newer program's
    │   └── StorageError        502  what the bucket or folder of the backups did
    │       ├── StorageDenied        it does not let us
    │       ├── StorageMissing       there is no such object
    │       └── StorageUnavailable 503  it is away, or silent
    ├── StartupFailure               the process cannot start: one line for a person
    ├── PodFailure                   what a pod did to a request
    │   ├── PodUnreachable           it never received the request
    │   ├── PodDied                  the connection broke after the request was sent
    │   ├── PodBusy                  503: ask again later
    │   ├── PodMisdirected           421: this pod belongs to another session
    │   └── PodRejected              any answer that ends the turn as failed
    └── PodCannotStart               the runtime gave up on a start: reason and remedy

``http_status`` is the one mapping to HTTP; a test walks this tree.  ``detail`` is for a person and never holds a
path, a key, a stack or a host.
"""

from __future__ import annotations


class SessionManagerError(Exception):
    """The root. ``detail`` is the sentence that a caller of the API reads."""

    http_status: int = 500
    title: str = "Internal error"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail or self.title


class InvalidInput(SessionManagerError):
    http_status = 400
    title = "Invalid input"

    def __init__(self, detail: str = "", field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


class Unauthenticated(SessionManagerError):
    http_status = 401
    title = "Authentication needed"


class Forbidden(SessionManagerError):
    http_status = 403
    title = "Not allowed"


class NotFound(SessionManagerError):
    http_status = 404
    title = "Not found"


class MethodNotAllowed(SessionManagerError):
    http_status = 405
    title = "Method not allowed"


class Conflict(SessionManagerError):
    http_status = 409
    title = "Conflict"


class IdempotencyMismatch(Conflict):
    title = "Idempotency-Key was used with another body"


class SessionBusy(Conflict):
    title = "A turn runs or waits"


class StaleSession(Conflict):
    title = "The session was changed since it was read"


class WrongMode(Conflict):
    title = "The mode of the session forbids it"


class TooLarge(SessionManagerError):
    http_status = 413
    title = "Body too large"


class RateLimited(SessionManagerError):
    http_status = 429
    title = "Too many requests"

    def __init__(self, detail: str = "", retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class NotSupported(SessionManagerError):
    http_status = 501
    title = "Not supported here"


class Unavailable(SessionManagerError):
    """A dependency is away. Raised only before anything was committed; ``retry_after`` is in seconds."""

    http_status = 503
    title = "Temporarily unavailable"

    def __init__(self, detail: str = "", retry_after: int = 2) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class StoreUnavailable(Unavailable):
    title = "The database is unavailable"


class ActivityUnavailable(Unavailable):
    title = "Redis is unavailable"


class AnotherMachine(ActivityUnavailable):
    """As good as no Redis: nothing may be decided here."""

    title = "Another machine runs the pods"


class NotTheWriter(Unavailable):
    title = "Another instance writes"


class BackupError(SessionManagerError):
    """``reason`` is for logs and for who runs this: it may name files and hosts, and never a secret."""

    title = "The backup failed"

    def __init__(self, detail: str = "", reason: str = "") -> None:
        super().__init__(detail)
        self.reason = reason or self.detail


class BackupDamaged(BackupError):
    title = "The backup is damaged"


class BackupNotForUs(BackupError):
    title = "The backup cannot be used here"


class StorageError(BackupError):
    http_status = 502
    title = "The backup storage failed"


class StorageDenied(StorageError):
    title = "The backup storage does not allow it"


class StorageMissing(StorageError):
    title = "The backup storage has no such bucket, folder or object"


class StorageUnavailable(StorageError):
    http_status = 503
    title = "The backup storage is unavailable"


class StartupFailure(SessionManagerError):
    title = "Cannot start"


class PodFailure(SessionManagerError):
    http_status = 502
    title = "The pod failed"


class PodUnreachable(PodFailure):
    title = "The pod could not be reached"


class PodDied(PodFailure):
    title = "The pod died while it worked"


class PodBusy(PodFailure):
    title = "The pod asked to be called again later"

    def __init__(self, detail: str = "", retry_after: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class PodMisdirected(PodFailure):
    title = "The pod belongs to another session"


class PodRejected(PodFailure):
    title = "The pod's answer cannot be used"


class PodCannotStart(SessionManagerError):
    """A start that the runtime gave up on. ``reason`` is a CamelCase word, ``remedy`` a sentence for a person."""

    title = "The pod cannot start"

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}: {remedy}")
        self.reason = reason
        self.remedy = remedy
