"""What a selection may be asked for, by name: what the help of a command lists before numpy or LiteRT is loaded."""

from typing import Final

METRICS: Final = ("blend", "accuracy", "log_loss")
"""Scores that members are selected by: ensemble.selection.scores.SCORES"""
PRECISIONS: Final = ("float32", "float16", "int8")
"""How weights are stored: ensemble.tflite.export.PRECISIONS"""
PREFERENCES: Final = ("cheapest", "accuracy")
"""What ships of the ensembles within a budget: ensemble.evaluation.preference"""
