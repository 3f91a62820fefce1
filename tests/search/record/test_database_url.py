"""The URL of a database: what is kept of it, and with what it is opened again."""

import re

import pytest

from search.record.database_url import same_place, shown, usable, without_password
from trainer.common.errors import UserError


def test_passwords_are_not_kept() -> None:
    assert without_password("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert shown("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
    assert (
        without_password("postgresql://me:@/db?host=/run") == "postgresql://me@/db?host=%2Frun"
    )  # an empty one is none
    assert shown("sqlite:////data/study.db") == "/data/study.db"
    for url, words in (
        ("postgresql://me:sec@ret@host/db", "must have @ written as %40"),
        ("mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3Dsecret", "a password belongs before the host"),
        ("postgresql://host/db?sslpassword=secret", "a password belongs before the host"),
        ("mysql://host/db?access_key=word", "a password belongs before the host"),
    ):
        with pytest.raises(UserError, match=f"storage: .*{words}") as refusal:
            shown(url)
        assert not {"ret", "secret"} & set(re.split(r"\W+", str(refusal.value)))


def test_a_password_of_postgresqls_own_need_not_be_given_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGPASSWORD", "PGPASSFILE"):
        monkeypatch.delenv(name, raising=False)
    kept = without_password("postgresql://me:secret@host/db")
    assert usable(kept) is None
    assert usable("postgresql://me@host/db") == "postgresql://me@host/db"
    monkeypatch.setenv("PGPASSWORD", "secret")
    assert usable(kept) == "postgresql://me@host/db"
    assert usable("mysql://me:***@host/db") is None
    assert same_place(kept) == same_place("postgresql://me@host/db") != same_place("postgresql://you@host/db")
