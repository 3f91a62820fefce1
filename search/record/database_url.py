"""The URL of a study's database: as it is kept, shown and opened. A password is never kept or shown."""

import os
from pathlib import Path
from urllib.parse import quote

from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from trainer.common.credentials import HIDDEN, has_secret, secret
from trainer.common.errors import UserError


def shown(url: str) -> str:
    """A database as messages name it: a SQLite file by its path, others by their URL without a password.

    Raises UserError if it is none.
    """
    parsed = make_url(without_password(url))
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        return parsed.database
    return parsed.render_as_string()


def without_password(url: str) -> str:
    """A URL as it may be kept. Raises UserError if it is none."""
    try:
        parsed = make_url(url)
    except (SQLAlchemyError, ValueError) as error:
        raise UserError(
            f"not a database URL, such as postgresql://user@host/name ({error})", field="storage"
        ) from error
    if any(has_secret(f"{name}={value}") for name, value in parsed.query.items()):  # odbc_connect has all in one
        raise UserError("a password belongs before the host, postgresql://user:password@host/name", field="storage")
    if parsed.password == "":
        parsed = parsed._replace(password=None)
    if "@" in (parsed.host or ""):
        raise UserError("a password must have @ written as %40", field="storage")
    secret([] if parsed.password in (None, HIDDEN) else [parsed.password, quote(parsed.password, safe="")])
    return parsed.render_as_string(hide_password=True)


def to_keep(url: str) -> str:
    """A URL as it is kept: without its password, and the same from every folder, an SQLite file's path being absolute.

    Raises UserError if it is none.
    """
    kept = without_password(url)
    parsed = make_url(kept)
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database.startswith((":", "file:")):
        return kept
    return parsed.set(database=str(Path(parsed.database).absolute())).render_as_string(hide_password=True)


def had_password(url: str) -> bool:
    """Whether a URL that was kept had a password."""
    return f":{HIDDEN}@" in url


def usable(url: str) -> str | None:
    """A URL that was kept, as it can be opened now; None if its password must be given again.

    PostgreSQL's own library takes a password from PGPASSWORD or PGPASSFILE where a URL has none.
    """
    if not had_password(url):
        return url
    if os.environ.keys() & {"PGPASSWORD", "PGPASSFILE"} and make_url(url).get_backend_name() == "postgresql":
        return same_place(url)
    return None


def same_place(url: str) -> str:
    """A URL without password, also without the sign of one: equal for URLs of the same database and user."""
    return make_url(to_keep(url))._replace(password=None).render_as_string()


def sqlite_url(path: Path) -> str:
    return f"sqlite:///{path}"
