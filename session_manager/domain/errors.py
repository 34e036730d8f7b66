"""All errors that this package raises on purpose, in one tree.

::

    SessionManagerError
    ├── InvalidInput            400  a field that is missing, too long or of the wrong type
    │   └── UnreadableRow            a row that another program wrote to ADK's tables
    ├── Unauthenticated         401  no credential, or an unknown one
    ├── Forbidden               403  the caller may not do this
    ├── QuotaExceeded           403  a user would have more than they may
    │   ├── StorageFull         413  more bytes
    │   └── QueueFull           429  more unfinished messages; says when to retry
    ├── NotFound                404  no such session or message, or it belongs to another user
    ├── Conflict                409  the request contradicts the current state
    │   ├── IdempotencyMismatch      the same Idempotency-Key with another body
    │   ├── SessionBusy              a turn is running or waiting
    │   ├── StaleSession             a writer of ADK events has an older copy of the session
    │   └── WrongMode                the mode of the session does not allow it: Suspended, AlwaysOn
    ├── TooLarge                413  a body over the limit
    ├── UnsupportedMedia        415  a body that is not JSON in UTF-8, or is compressed
    ├── RateLimited             429  over a limit; says when to retry
    ├── Unavailable             503  a dependency cannot be reached; nothing was committed
    │   ├── StoreUnavailable         the SQL database
    │   │   ├── OutcomeUnknown  504  it went away during the commit
    │   │   └── StoreCannotWrite     it answers, but its disk is full, read-only or broken
    │   ├── ActivityUnavailable      Redis
    │   │   └── AnotherMachine       Redis says that another machine runs the pods
    │   ├── Overloaded               the front door holds as much for its callers as it may
    │   └── NotTheWriter             another instance has, or may have, the right to write
    ├── BackupError             500  a backup or a restore failed
    │   ├── BackupDamaged            the stored content is not what was written
    │   ├── BackupNotForUs           another engine, an unknown key, or a newer program
    │   └── StorageError        502  the bucket or folder of the backups failed
    │       ├── StorageDenied        access was denied
    │       ├── StorageMissing       the object does not exist
    │       └── StorageUnavailable 503  it cannot be reached, or does not answer
    ├── StartupFailure               the process cannot start; the text is one line for the operator
    ├── PodFailure                   a pod failed to serve a request
    │   ├── PodUnreachable           it never received the request
    │   ├── PodDied                  the connection broke after the request was sent
    │   ├── PodBusy                  503: ask again later
    │   ├── PodMisdirected           421: this pod belongs to another session
    │   └── PodRejected              any answer that ends the turn as failed
    └── PodCannotStart               the runtime gave up on a start: reason and remedy

``http_status`` is the only mapping to HTTP; a test walks this tree. ``detail`` is written for people and never contains
a path, a key, a stack trace or a host.
"""

from __future__ import annotations


class SessionManagerError(Exception):
    """The root of the tree. ``detail`` is the sentence that a caller of the API reads."""

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


class UnreadableRow(InvalidInput):
    title = "ADK's row of the session cannot be read"


class Unauthenticated(SessionManagerError):
    """``tried``: a credential was sent, and it is wrong."""

    http_status = 401
    title = "Authentication needed"

    def __init__(self, detail: str = "", *, tried: bool = False) -> None:
        super().__init__(detail)
        self.tried = tried


class Forbidden(SessionManagerError):
    http_status = 403
    title = "Not allowed"


class QuotaExceeded(SessionManagerError):
    """``quota`` is the name of the limit, ``used`` what the user has of it without this request."""

    http_status = 403
    title = "Quota exceeded"
    words = "{user} has {used} of {limit} sessions; delete some of them first"

    def __init__(self, user: str, quota: str, limit: int, used: int) -> None:
        super().__init__(self.words.format(user=user, limit=limit, used=used))
        self.user, self.quota, self.limit, self.used = user, quota, limit, used


class StorageFull(QuotaExceeded):
    http_status = 413
    title = "Storage quota exceeded"
    words = "{user} has {used} of {limit} bytes, and this needs more; delete sessions or artifacts first"


class QueueFull(QuotaExceeded):
    http_status = 429
    title = "Too many unfinished messages"
    words = "{used} messages of {user} wait or run, of {limit} at most; send more when some have ended"
    retry_after = 5


class NotFound(SessionManagerError):
    http_status = 404
    title = "Not found"


class Conflict(SessionManagerError):
    http_status = 409
    title = "Conflict"


class IdempotencyMismatch(Conflict):
    title = "Idempotency-Key was used with another body"


class SessionBusy(Conflict):
    title = "A turn is running or waiting"


class StaleSession(Conflict):
    title = "The session was changed since it was read"


class WrongMode(Conflict):
    title = "The mode of the session does not allow it"


class TooLarge(SessionManagerError):
    http_status = 413
    title = "Body too large"


class UnsupportedMedia(SessionManagerError):
    http_status = 415
    title = "Unsupported kind of body"


class RateLimited(SessionManagerError):
    http_status = 429
    title = "Too many requests"

    def __init__(self, detail: str = "", retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(SessionManagerError):
    """A dependency cannot be reached. Nothing was committed, except as OutcomeUnknown says.

    ``retry_after`` is in seconds.
    """

    http_status = 503
    title = "Temporarily unavailable"

    def __init__(self, detail: str = "", retry_after: int = 2) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class StoreUnavailable(Unavailable):
    title = "The database is unavailable"


class OutcomeUnknown(StoreUnavailable):
    """The connection broke during the commit, so the change may be stored or not."""

    http_status = 504
    title = "It is unknown whether the change was stored"

    def __init__(self) -> None:
        super().__init__("the database went away during the commit; look whether the change was made, then try again")


class StoreCannotWrite(StoreUnavailable):
    title = "The database cannot write to its disk; nothing was stored"


class ActivityUnavailable(Unavailable):
    title = "Redis is unavailable"


class AnotherMachine(ActivityUnavailable):
    """Another machine owns the pods, so this one must act as if Redis could not be reached."""

    title = "Another machine runs the pods"


class Overloaded(Unavailable):
    title = "The front door is busy with other callers"


class NotTheWriter(Unavailable):
    title = "Another instance writes"


class BackupError(SessionManagerError):
    """``reason`` is for logs and operators: it may name files and hosts, but never contains a secret."""

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
    title = "The backup storage denied access"


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
    title = "The pod died during the request"


class PodBusy(PodFailure):
    title = "The pod is busy"

    def __init__(self, detail: str = "", retry_after: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class PodMisdirected(PodFailure):
    title = "The pod belongs to another session"


class PodRejected(PodFailure):
    title = "The pod's answer is not usable"


class PodCannotStart(SessionManagerError):
    """The runtime gave up on a start. ``reason`` is a CamelCase word, ``remedy`` a sentence for people."""

    title = "The pod cannot start"

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(f"{reason}: {remedy}")
        self.reason = reason
        self.remedy = remedy
