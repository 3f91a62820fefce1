"""Errors that a user can act on.

A UserError carries the field at fault by the name that Python has for it. The command line puts its flag there
(trainer.common.cli), so that no library code names flags.
"""

from typing import Any

from trainer.common.credentials import hide


class UserError(Exception):
    """Something the user can mend: the message says what is wrong and what to do.

    ``field`` is the name of the argument or configuration field at fault, if there is one. Passwords and keys that the
    message repeats are hidden.

    >>> str(UserError("must be at least 1, not 0", field="workers"))
    'workers: must be at least 1, not 0'
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        self.message = hide(message)
        super().__init__(self.message)
        self.field = field

    def __str__(self) -> str:
        return self.message if self.field is None else f"{self.field}: {self.message}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.field)


def _rebuild(kind: type[UserError], message: str, field: str | None) -> UserError:
    return kind(message, field=field)


class FieldError(UserError, ValueError):
    """A field of a configuration that is unknown, or whose value is out of its range."""


class StorageError(UserError):
    """Storage that cannot be reached, read or written."""


class DatasetChangedError(StorageError):
    """A packed dataset whose files are not what its manifest says. The message names the file."""


class LandmarkFileError(UserError):
    """A landmark file that cannot be used. The message says why, not which file."""


class TrainingDivergedError(UserError):
    """The loss or a probability became NaN or infinite. The message says when."""


def first_line(error: BaseException) -> str:
    """What an exception of another library says, in one line; its type's name if it says nothing.

    >>> first_line(ValueError("bad magic\\n  at byte 4"))
    'bad magic'
    """
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def in_one_line(error: BaseException) -> str:
    """All that an exception says, its lines joined."""
    return " ".join(str(error).split()) or type(error).__name__
