"""Errors carry the field at fault, and survive the way between processes."""

import pickle

import pytest

from trainer.common.errors import (
    FieldError,
    LandmarkFileError,
    StorageError,
    TrainingDivergedError,
    UserError,
    first_line,
    in_one_line,
)


@pytest.mark.parametrize("kind", [UserError, FieldError, LandmarkFileError, StorageError, TrainingDivergedError])
@pytest.mark.parametrize("field", [None, "epochs"])
def test_an_error_comes_out_of_a_worker_process_as_it_went_in(kind: type[UserError], field: str | None) -> None:
    error = pickle.loads(pickle.dumps(kind("must be at least 1", field=field)))
    assert type(error) is kind
    assert (error.message, error.field) == ("must be at least 1", field)
    assert str(error) == ("must be at least 1" if field is None else "epochs: must be at least 1")


def test_what_other_libraries_say_becomes_one_line() -> None:
    assert first_line(OSError("no room\nleft")) == "no room"
    assert in_one_line(OSError("no room\n  left")) == "no room left"
    assert first_line(ZeroDivisionError()) == in_one_line(ZeroDivisionError()) == "ZeroDivisionError"
