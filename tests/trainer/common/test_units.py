"""Numbers with units."""

import math

import pytest

from trainer.common.units import number, parse_amount, parse_limits

BYTES = {"kb": 1e3, "mb": 1e6}


@pytest.mark.parametrize(
    ("text", "amount"), [("40MB", 40e6), (" 1.5 kb", 1500), (".5mb", 5e5), ("32.767MB", 32_767_000)]
)
def test_an_amount_is_the_number_times_its_unit(text: str, amount: float) -> None:
    assert parse_amount(text, BYTES)[0] == amount


@pytest.mark.parametrize("text", ["", "40", "MB", "-4MB", "4e3MB", "4GB", "1..5MB", "\u0664MB"])
def test_what_is_no_amount_names_the_units(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a number with a unit \(kb, mb\)"):
        parse_amount(text, BYTES)


def test_limits_are_read_by_name_and_each_at_most_once() -> None:
    units = {"mb": ("size", 1e6), "ms": ("latency", 1.0)}
    assert parse_limits("40MB, 100ms", units, "40MB") == {"size": 40e6, "latency": 100}
    for text, words in (
        ("1MB,2MB", "limits size twice"),
        ("0ms", "leaves room for nothing"),
        ("1MB,", "write for example"),
        (f"{'9' * 400}MB", r"'9{40}\.\.\.' is too large; write for example"),
    ):
        with pytest.raises(ValueError, match=words):
            parse_limits(text, units, "40MB")


def test_what_is_no_number_is_in_no_range() -> None:
    assert number("2.5") == 2.5
    assert math.isnan(number("many"))
