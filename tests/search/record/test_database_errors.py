"""Every word of a database that users meet comes with what to do; what may pass is told from what stays."""

import sqlite3

import pytest
from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import InternalError, OperationalError, ProgrammingError

from search.record.database_errors import BRING_BACK, explained, may_pass
from trainer.common.errors import UserError


@pytest.mark.parametrize(
    ("said", "to_do"),
    [
        ("database disk image is malformed", BRING_BACK),
        ("file is not a database", BRING_BACK),
        ("database is locked", "let that end, then try again"),
        ("attempt to write a readonly database", "let this user write to it"),
        ('FATAL: password authentication failed for user "me"', "the right user and password"),
        ('could not translate host name "nowhere" to address', "look at the host"),
        ("connection failed: Connection refused", "start its server"),
        ("the database system is starting up", "start its server"),
        ('FATAL: database "studies" does not exist', "make that database"),
        ("The runtime optuna version 5.0.0 is no longer compatible with the table schema", "use the versions"),
    ],
)
def test_what_a_database_says_comes_with_what_to_do(said: str, to_do: str) -> None:
    with pytest.raises(UserError) as refusal, explained("postgresql://me:***@host/db", "read as a study"):
        raise OperationalError("select", {}, Exception(said))
    message = str(refusal.value)
    assert message.startswith(f"postgresql://me:***@host/db: cannot be read as a study ({said}); ")
    assert to_do in message
    assert "\n" not in message


def test_optunas_word_for_a_missing_study_is_not_repeated() -> None:
    words = rf"^x.db: cannot be read as a study .it holds no such study.; {BRING_BACK}$"
    with pytest.raises(UserError, match=words), explained("x.db", "read as a study"):
        raise KeyError("Record does not exist.")


def _of_optuna() -> Exception:
    error = StorageInternalError("An exception is raised during the commit.")
    error.__cause__ = OperationalError("commit", {}, Exception("server closed the connection"))
    return error


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OperationalError("connect", {}, Exception("refused")), True),
        (_of_optuna(), True),
        (InternalError("insert", {}, Exception("cannot execute INSERT in a read-only transaction")), True),
        (InternalError("insert", {}, Exception("invalid page in block 3")), False),
        (ProgrammingError("select", {}, Exception("no such column")), False),
        (OperationalError("insert", {}, sqlite3.OperationalError("disk I/O error")), False),
        (ValueError("x"), False),
    ],
)
def test_only_a_server_that_is_out_of_reach_or_a_standby_is_waited_for(error: Exception, passes: bool) -> None:
    assert may_pass(error) == passes
