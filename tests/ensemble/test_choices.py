"""The names that help lists are those of the tables that work with them."""

from ensemble import choices
from ensemble.selection.scores import SCORES
from ensemble.tflite.export import PRECISIONS


def test_every_metric_and_precision_is_listed_in_order() -> None:
    assert tuple(SCORES) == choices.METRICS
    assert tuple(PRECISIONS) == choices.PRECISIONS
