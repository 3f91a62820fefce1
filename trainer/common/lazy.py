"""Public names of a package that are imported when they are first used.

``from search import search`` must not cost torch and Ray those who want ``from search import Space``, and a command's
help must cost neither.
"""

import importlib
import sys
import types
from collections.abc import Mapping
from typing import Any


def install(package: str, names: Mapping[str, str]) -> list[str]:
    """Give a package lazy attributes, each from the module named for it, and return their names, sorted.

    A name may also be a submodule's: ``trainer.train`` is a command's module and a function. The attribute is the
    function, so ``import trainer.train as train`` gives the function too. ``python -m trainer.train``, ``from
    trainer.train import main`` and ``importlib.import_module("trainer.train")`` reach the module.

    Example, in ``trainer/__init__.py``::

        __all__ = lazy.install(__name__, {"train": "trainer.learning.loop"})
    """

    class LazyPackage(types.ModuleType):
        def __getattr__(self, name: str) -> Any:
            if name not in names:
                raise AttributeError(f"module {package!r} has no attribute {name!r}")
            value = getattr(importlib.import_module(names[name]), name)
            super().__setattr__(name, value)
            return value

        def __setattr__(self, name: str, value: Any) -> None:
            if name in names and isinstance(value, types.ModuleType):
                return  # the import system announces a submodule of the name
            super().__setattr__(name, value)

        def __dir__(self) -> list[str]:
            return sorted({*super().__dir__(), *names})

    sys.modules[package].__class__ = LazyPackage
    return sorted(names)
