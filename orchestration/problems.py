"""Everything the API and the client can refuse or fail to do, each with a code, a title and a hint.

A kind is a constant here; `kind.error(detail)` is the exception. The API turns it into a problem
document (RFC 9457), the client turns that back into the same exception, and the command line prints it
and exits with the kind's `exit_status`. `docs/errors.md` explains every code; a test keeps it complete.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from orchestration.records import Problem

__all__ = ["KINDS", "ProblemError", "ProblemKind", "exit_status_of"]

# What the process exits with; 0 is success.
EXIT_FAILED = 1
EXIT_CHANGES = 2  # plan --detailed-exitcode
EXIT_WAITED_FOR_FAILED = 3
EXIT_UNREACHABLE = 4
EXIT_DENIED = 5
EXIT_USAGE = 64
EXIT_BAD_INPUT = 65
EXIT_TIMED_OUT = 124


class ProblemError(Exception):
    """An operation was refused or failed. The API answers with the problem; the command line prints it."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(f"{problem.code}: {problem.title}: {problem.detail}")
        self.problem = problem


class ProblemKind(Struct, frozen=True, kw_only=True):
    """One kind of problem; `status` is the HTTP status (0: only the client can have it)."""

    code: str
    status: int
    title: str
    hint: str
    exit_status: int = EXIT_FAILED

    def problem(
        self,
        detail: str,
        *,
        hint: str = "",
        instance: str = "",
        errors: Iterable[dict[str, object]] = (),
    ) -> Problem:
        """Make the document; `detail` says which thing, which value and why."""
        return Problem(
            title=self.title,
            status=self.status,
            code=self.code,
            detail=detail,
            hint=hint or self.hint,
            instance=instance,
            errors=tuple(errors),
        )

    def error(
        self,
        detail: str,
        *,
        hint: str = "",
        instance: str = "",
        errors: Iterable[dict[str, object]] = (),
    ) -> ProblemError:
        """Make the exception to raise."""
        return ProblemError(self.problem(detail, hint=hint, instance=instance, errors=errors))

    def item(self, index: int, message: str, *, hint: str = "") -> dict[str, object]:
        """Make one entry of a batch's `errors`: unit `index` (from 0) is refused with this kind."""
        return {"index": index, "code": self.code, "message": message, "hint": hint or self.hint}


def _kind(
    number: int, status: int, title: str, hint: str, *, exits: int = EXIT_FAILED
) -> ProblemKind:
    return ProblemKind(
        code=f"CLOUDCTL-E{number:04}", status=status, title=title, hint=hint, exit_status=exits
    )


# The request itself.
MALFORMED_BODY = _kind(
    201, 400, "The request body cannot be read", "send JSON as /openapi.json describes it"
)
UNSUPPORTED_MEDIA = _kind(
    202, 415, "The content type is not one we read", "send application/json or application/x-ndjson"
)
BODY_TOO_LARGE = _kind(
    203, 413, "The request body is too large", "send the units in several requests"
)
BAD_QUERY = _kind(204, 400, "A query parameter is wrong", "see /openapi.json for the parameters")
NO_SUCH_ROUTE = _kind(
    205, 404, "There is nothing at this address", "see /openapi.json for the routes"
)
METHOD_NOT_ALLOWED = _kind(206, 405, "This address does not take that method", "see /openapi.json")
BAD_CURSOR = _kind(
    207, 400, "The page cursor is not one we gave out", "start again without a cursor"
)
BAD_HEADER = _kind(208, 400, "A request header is wrong", "see docs/api.md for the headers")

# Things asked for by name.
NO_SUCH_UNIT = _kind(210, 404, "No such unit of work", "list them: cloudctl get work")
NO_SUCH_RESOURCE = _kind(211, 404, "No such resource", "list them: cloudctl get resources")
NO_SUCH_OBJECT = _kind(
    212, 404, "No such object", "list them: cloudctl get regions|zones|pods|nodes"
)

# A unit of work, or a batch of them.
BATCH_REFUSED = _kind(
    220,
    422,
    "Units were refused; none of the batch was accepted",
    "correct the units listed",
)
UNKNOWN_RESOURCE = _kind(
    221, 422, "The unit names a resource that does not exist", "cloudctl get resources"
)
UNKNOWN_VERB = _kind(
    222, 422, "The driver has no such verb", "cloudctl describe RESOURCE lists the verbs"
)
BAD_PARAMETER = _kind(
    223, 422, "A command's parameter is wrong", "cloudctl describe RESOURCE lists the parameters"
)
NO_COMMANDS = _kind(224, 422, "The unit has no commands", "give it at least one command")
KEY_REUSED = _kind(
    225,
    422,
    "The idempotency key was used for another unit",
    "use a new key for new work, the same for a retry",
)
BAD_ON_FAILURE = _kind(
    226,
    422,
    "The failure strategy is wrong",
    "strategy is `fail` or `wait`; attempts, backoff and deadline are >= 0",
)
BAD_KEY = _kind(227, 422, "The idempotency key is not usable", "use 1 to 255 printable characters")
BAD_UNIT = _kind(228, 422, "The unit cannot be read", "see docs/api.md for the shape of a unit")
TOO_MANY_UNITS = _kind(
    229, 413, "Too many units in one request", "send the units in several requests"
)

# Cancelling.
ALREADY_FINISHED = _kind(
    230, 409, "The unit has already come to its end", "cloudctl describe work ID"
)

RETRY_OF_WHAT = _kind(
    232, 0, "Only work that has ended without success can be retried", "cloudctl describe work ID"
)
NOT_SET_ASIDE = _kind(
    233,
    409,
    "The resource is not set aside",
    "only one that is set aside is brought back; one whose pod is down comes back with its pod",
)

# Planning and applying.
STALE_REVISION = _kind(
    240, 412, "The infrastructure has changed since the plan", "plan again, then apply that plan"
)
WORK_WOULD_GO = _kind(
    241,
    409,
    "Resources with unfinished work would be removed",
    "wait for the work, cancel it, or apply with --cancel-work",
)
BAD_INFRASTRUCTURE = _kind(242, 422, "The infrastructure is not valid", "cloudctl validate FILE")

# The server.
DISK_FULL = _kind(
    250,
    507,
    "The disk of the state folder is full; nothing was accepted",
    "make room",
)
JOURNAL_FAILED = _kind(
    251,
    503,
    "The journal cannot be written; nothing was accepted",
    "see log/ in the state folder",
)
NOT_READY = _kind(
    252,
    503,
    "The server is starting or stopping",
    "send it again in a moment",
    exits=EXIT_UNREACHABLE,
)
INTERNAL = _kind(259, 500, "The server failed", "its log says more: log/ in the state folder")

# The client.
NOT_RUNNING = _kind(
    260, 0, "No server is running", "start one: cloudctl server start", exits=EXIT_UNREACHABLE
)
SOCKET_DENIED = _kind(
    261,
    0,
    "No permission on the server's socket",
    "use the account that runs the server",
    exits=EXIT_DENIED,
)
OUTCOME_UNKNOWN = _kind(
    262,
    0,
    "The answer did not come in time; the outcome is unknown",
    "look before you retry",
    exits=EXIT_TIMED_OUT,
)
CONNECTION_BROKE = _kind(
    263,
    0,
    "The connection broke; the outcome is unknown",
    "look before you retry",
    exits=EXIT_UNREACHABLE,
)
NOT_UNDERSTOOD = _kind(
    264,
    0,
    "The server's answer is not understood",
    "compare: cloudctl version and cloudctl server status",
)
ALREADY_RUNNING = _kind(
    265, 0, "A server is already running on this state folder", "cloudctl server status"
)
START_FAILED = _kind(266, 0, "The server did not become ready", "its log says why")
STOP_FAILED = _kind(267, 0, "The server did not stop", "look at it: cloudctl server status")
UNREADABLE_FILE = _kind(
    268, 0, "The file cannot be read", "check its name and permissions", exits=EXIT_BAD_INPUT
)
BAD_WORK_FILE = _kind(
    269,
    0,
    "The file of work is wrong",
    "TOML with [[work]] tables, or one JSON object a line",
    exits=EXIT_BAD_INPUT,
)
BAD_ARGUMENT = _kind(270, 0, "An argument is wrong", "cloudctl COMMAND --help", exits=EXIT_USAGE)
NEEDS_APPROVAL = _kind(
    271,
    0,
    "Nobody can be asked for approval here",
    "pass --auto-approve to apply without asking",
    exits=EXIT_USAGE,
)
WORK_FAILED = _kind(
    272,
    0,
    "Work that was waited for did not succeed",
    "cloudctl describe work ID",
    exits=EXIT_WAITED_FOR_FAILED,
)
WAIT_TIMED_OUT = _kind(
    273,
    0,
    "The wait is over, the work is not",
    "it goes on; look again: cloudctl get work",
    exits=EXIT_TIMED_OUT,
)
NOT_CONVERGED = _kind(
    274,
    0,
    "Applied, but not all resources are ready",
    "cloudctl tree shows what is not",
    exits=EXIT_TIMED_OUT,
)
VERIFY_FAILED = _kind(275, 0, "A promise is broken", "keep the state folder and report it")
BAD_STATE_FOLDER = _kind(
    276, 0, "The state folder cannot be used", "choose another: --state-dir", exits=EXIT_USAGE
)
STOP_DENIED = _kind(
    278, 0, "No permission to stop the server", "use the account that runs it", exits=EXIT_DENIED
)
NOT_APPROVED = _kind(277, 0, "Not applied", "nothing was changed")

KINDS: dict[str, ProblemKind] = {
    kind.code: kind for kind in list(globals().values()) if isinstance(kind, ProblemKind)
}


def exit_status_of(problem: Problem) -> int:
    """Say what the command line exits with for `problem` (1 for a code we do not know)."""
    kind = KINDS.get(problem.code)
    return EXIT_FAILED if kind is None else kind.exit_status
