"""Options written down as the fields of a dataclass."""

from dataclasses import dataclass

import pytest

from trainer.common.errors import UserError
from trainer.common.fields import field_docs, option, positive, require_trials, suggestion, to_words, trial_names


@dataclass(frozen=True, kw_only=True)
class Base:
    """Shared options."""

    device: str = "cpu"
    """Where it
    runs."""


@dataclass(frozen=True, kw_only=True)
class Keyword:
    """A field that would be a keyword of Python's."""

    try_: str | None = option(None)


@dataclass(frozen=True, kw_only=True)
class Options(Base):
    """Options of a command."""

    names: tuple[str, ...] = option(())
    """Names."""
    deep: bool = True
    """Whether it is deep."""
    rate: float = 0.5
    extra: dict[str, int] = option({})
    """More."""


def test_docstrings_beneath_fields_are_found_in_one_line_and_inherited() -> None:
    assert field_docs(Options) == {
        "device": "Where it runs.",
        "names": "Names.",
        "deep": "Whether it is deep.",
        "extra": "More.",
    }


def test_each_instance_has_a_dict_of_its_own() -> None:
    assert Options().extra == {}
    assert Options().extra is not Options().extra


def test_words_leave_out_what_is_at_its_default() -> None:
    options = Options(names=("a", "b"), deep=False, rate=1e-4)
    assert to_words(options, {"extra": {}}) == ["--names", "a", "b", "--no-deep", "--rate", "0.0001"]
    assert to_words(Options(), {"extra": {}}) == []


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "many", ""])
def test_what_is_not_positive_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a whole number of at least 1"):
        positive(text)
    assert positive("12") == 12


def test_only_what_is_near_is_suggested() -> None:
    assert suggestion("halvin", ["halving", "median"]) == "; did you mean halving?"
    assert suggestion("xyz", ["halving", "median"]) == ""


def test_the_underscore_of_a_keyword_is_not_in_its_option() -> None:
    assert to_words(Keyword(try_="a=1")) == ["--try", "a=1"]


def test_trials_are_named_as_their_folders_are_after_their_study() -> None:
    assert trial_names("7, 0012,asl/12345") == ("0007", "0012", "asl/12345")
    for text in ("", "x", "7,", "-1", "/7", "asl/", "7.5", "٣"):
        with pytest.raises(ValueError, match="must be numbers of trials such as 7,12 or asl/7, not "):
            trial_names(text)


def test_trials_that_are_not_there_are_named_with_the_likest() -> None:
    require_trials(["0001", "0002"], ["0001", "0002"], "ignore")
    with pytest.raises(UserError, match=r"^ignore: there is no trial 9; there are 1 to 2$"):
        require_trials(["0001", "0009"], ["0001", "0002"], "ignore")
    with pytest.raises(UserError, match=r"there is no trial 1; did you mean a/1, b/1\?$"):
        require_trials(["0001"], ["a/0001", "b/0001", "b/0002"], "ignore")
