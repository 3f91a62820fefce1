"""What databases say when something is wrong, in one line that says what to do, and whether it may pass by itself."""

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Final

from optuna.exceptions import DuplicatedStudyError, OptunaError
from sqlalchemy.exc import DBAPIError, InterfaceError, InternalError, OperationalError, SQLAlchemyError

from trainer.common.errors import UserError, in_one_line

BRING_BACK: Final = "bring the database back as the search left it"
_PACKAGES: Final = {"psycopg": "psycopg[binary]", "MySQLdb": "mysqlclient"}  # of drivers named otherwise
_FAULTS: Final = (
    *(SQLAlchemyError, OptunaError, ImportError, OSError, RuntimeError, ValueError),
    *(LookupError, AssertionError, TypeError),  # of Optuna, for rows that it never writes
)
_READ_ONLY: Final = "read-only transaction"
_REMEDIES: Final = (  # what is said, in small letters, and what to do; the first that fits
    (("disk i/o error", "disk is full"), "make room on its disk, or look whether that works"),
    (("load plugin",), "give the URL of SQLite or PostgreSQL, such as postgresql://USER@HOST/NAME"),
    (("unable to open",), "look whether it is a file, in a folder that is there and may be written to"),
    (("is locked",), "another program writes to it: let that end, then try again"),
    (("readonly database", "permission denied", "insufficient privilege"), "let this user write to it"),
    (("authentication failed", "password", "access denied"), "give its URL with the right user and password"),
    (("translate host name", "resolve host", "name or service", "getaddrinfo"), "look at the host in its URL"),
    ((_READ_ONLY, "recovery mode"), "its server is a standby: give the URL of the primary, or wait until it is one"),
    (
        ("refused", "timeout", "timed out", "unreachable", "closed the connection", "starting up", "shutting down"),
        "start its server, or look at the host and the port in its URL",
    ),
    (("no longer compatible",), "use the versions of sign-ensemble-search and Optuna that made it"),
    (("no such table", "does not exist: v", "record does not exist"), ""),
    (('database "', "unknown database"), "make that database on its server, or look at the name in its URL"),
)


@contextlib.contextmanager
def explained(name: str, what: str, advice: str = "", remedy: str = BRING_BACK) -> Iterator[None]:
    """Turn whatever a database, called ``name``, can say into a UserError.

    ``advice`` is for a search that had written to it. ``remedy`` is for a database that is damaged, or another one.
    """
    try:
        yield
    except DuplicatedStudyError:
        raise
    except _FAULTS as error:
        reason = reason_of(error)
        words = in_one_line(getattr(reason, "orig", None) or reason)
        if isinstance(reason, ModuleNotFoundError) and reason.name is not None:
            what_to_do = f"pip install {_PACKAGES.get(reason.name, reason.name)}"
        elif advice:
            what_to_do = f"what was written before is safe: {advice}"
        else:
            what_to_do = remedy_for(words) or remedy
        if "Record does not exist" in words:  # Optuna's word for all that it looks for
            words = "it holds no such study"
        raise UserError(f"{name}: cannot be {what} ({words}); {what_to_do}") from error


def remedy_for(words: str) -> str:
    """What to do about a database that says this; empty if it must be brought back.

    >>> remedy_for("connection to server failed: Connection refused")
    'start its server, or look at the host and the port in its URL'
    """
    small = words.lower()
    return next((remedy for said, remedy in _REMEDIES if any(word in small for word in said)), "")


def reason_of(error: Exception) -> BaseException:
    """What Optuna, or a missing driver, hides behind an error of its own."""
    return error.__cause__ if isinstance(error, OptunaError | ImportError) and error.__cause__ else error


def may_pass(error: Exception) -> bool:
    """Whether a server is out of reach, or for the time being a standby that takes no changes."""
    reason = reason_of(
        error.__cause__ if isinstance(error, UserError) and isinstance(error.__cause__, Exception) else error
    )
    if not isinstance(reason, DBAPIError) or isinstance(reason.orig, sqlite3.Error):
        return False
    if isinstance(reason, InternalError):
        return _READ_ONLY in str(reason.orig)
    return isinstance(reason, OperationalError | InterfaceError)
