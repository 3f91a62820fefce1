"""Options written down as the fields of a dataclass."""

from dataclasses import dataclass

import pytest

from trainer.common.fields import field_docs, option, positive, suggestion, to_words


@dataclass(frozen=True, kw_only=True)
class Base:
    """Shared options."""

    device: str = "cpu"
    """Where it
    runs."""


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
