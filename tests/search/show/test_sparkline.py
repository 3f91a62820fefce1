"""A curve in one line."""

from search.show.sparkline import BLOCKS, sparkline


def test_each_value_has_a_block_of_its_height() -> None:
    assert sparkline([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8], 8, 0.1, 0.8) == BLOCKS
    assert sparkline([0.5, 0.5], 8, 0.0, 1.0) == "▅▅"  # 3.5 blocks above the lowest
    assert sparkline([], 8, 0.0, 1.0) == ""


def test_of_more_values_than_fit_the_last_of_each_part_is_shown() -> None:
    values = [number / 15 for number in range(16)]  # the last of four: 3, 7, 11 and 15, of 7 blocks 1.4, 3.3, 5.1 and 7
    assert sparkline(values, 4, 0.0, 1.0) == "▂▄▆█"
    assert len(sparkline(values[:7], 4, 0.0, 1.0)) == 4


def test_equal_values_are_a_line() -> None:
    assert sparkline([0.3, 0.3, 0.3], 8, 0.3, 0.3) == "▄▄▄"
