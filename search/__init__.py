"""Search the hyperparameters of sign classifiers: Optuna decides what to try and what to stop, Ray Tune runs it.

>>> from search import load_study, search
>>> study = search("results/data/asl-signs", trials=64, epochs=30, name="asl")  # doctest: +SKIP
>>> study.best.val_accuracy  # doctest: +SKIP
0.834
>>> load_study("results/asl").trials.head()  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from trainer.common import lazy

if TYPE_CHECKING:
    from search.execute.driver import search as search
    from search.problem.space import Space as Space
    from search.record.finished import Study as Study
    from search.record.finished import load_study as load_study

__all__ = lazy.install(
    __name__,
    {
        "Space": "search.problem.space",
        "Study": "search.record.finished",
        "load_study": "search.record.finished",
        "search": "search.execute.driver",
    },
)
