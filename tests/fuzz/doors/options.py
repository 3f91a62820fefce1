"""Spaces and options of the commands, up to where their work would begin."""

import contextlib
import functools
import importlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn
from unittest import mock

from tests.fuzz.attempt import Verdict, judge, run
from tests.fuzz.doors import Door, Step, Try, link_tree
from tests.fuzz.doors.study import start_nothing
from tests.fuzz.mutations import brief
from tests.fuzz.valid import CONTEST, LANDMARK_FILES, MAX_PARAMS, PACKED, PLOTLY, SPACE, STUDY, SUBMISSION
from trainer.common import cli

PIPE: Final = "pipe"
"""Lies in the working folder: it is neither to be waited for, nor to be replaced by a file"""
VALUES: Final = (
    "", " ", "0", "-1", "1", "2", "1.5", "-0.0", "1e99", "1e-99", "nan", "inf", "-inf", "1e400", "9" * 25, "9" * 5000,
    "text", "\n", "a b", "é", ".", "..", "../x", "/proc", "/proc/x", PIPE, "space.toml", "packed", "s",
    "asl", "://", "abc://x", "file:///proc/x", "1,2", ",", "x" * 300, "x" * 100_000, "1e999MB", "40MB,40MB",
    "1MB,nan ms", "40MB,100ms", "5M,0KB", "-5MB", "1e400M", "2M", "800K", "True", "[1]", "cmaes", "none", "cuda",
    "cpu", "0h", "1e400h", "8h", "1e-9s", "sqlite:///nowhere/x.db", "sqlite://", "mysql://x", "nonsense", "4294967296",
    "1_000", "float32", "--", "-", "\udcff", "NaN", "sign000,sign000", "accuracy", "0.25",
)  # fmt: skip
OPTIONS: Final = "options"
BASES: Final[dict[str, tuple[object, ...]]] = {
    "search.run": ("--trials", 3, "--epochs", 1, "--data", PACKED, "--space", SPACE, "--name", "n", "--results", "r"),
    "search.refit": (STUDY, "--top", 1, "--seeds", 1, "--epochs", 1, "--name", "refit"),
    "search.table": (STUDY,),
    "search.report": (STUDY, "--out", "report.html"),
    "ensemble.select": ("--results", STUDY, "--out", "o"),
    "ensemble.check": (SUBMISSION,),
    "ensemble.predict": (SUBMISSION, f"{CONTEST}/{LANDMARK_FILES[0]}"),
    "trainer.pack": (CONTEST, "out"),
    "trainer.train": ("--data", PACKED, "--out", "run", "--num-folds", 2),
    "trainer.ablate": ("--data", PACKED, "--out", "run", "--num-folds", 2),
    "trainer.synthesize": ("made",),
}
LEFT_OUT: Final = {"--help", "--version", "--address"}
"""The last one is waited for, at a cluster that is not there"""
_WORK: Final = {
    "ensemble.select": "ensemble.ship.pipeline.run",
    "ensemble.check": "ensemble.ship.contract.check",
    "trainer.train": "trainer.learning.loop.train",
    "trainer.ablate": "trainer.learning.ablation.measure",
    "trainer.synthesize": "trainer.synthetic.generate._write",
}
"""Where the work begins that is not done here"""


def lay(valid: Path) -> None:
    link_tree(valid / CONTEST, Path(CONTEST))
    link_tree(valid / PACKED, Path(PACKED))
    shutil.copytree(valid / STUDY, STUDY)
    shutil.copy(valid / SUBMISSION, ".")
    shutil.copy(valid / SPACE, ".")
    os.mkfifo(PIPE)


class _Known(Exception):
    """Carries a command's parser."""

    def __init__(self, parser: cli.Parser) -> None:
        super().__init__()
        self.parser = parser


@functools.cache
def flags_of(module: str) -> list[str]:
    """The options of a command."""

    def stop(parser: cli.Parser, *_: Any) -> NoReturn:
        raise _Known(parser)

    with mock.patch.object(cli.Parser, "parse_args", stop):
        try:
            importlib.import_module(module).main()
        except _Known as found:
            return [
                flag for flag in found.parser._option_string_actions if flag.startswith("--") and flag not in LEFT_OUT
            ]
    raise AssertionError(f"{module} has no parser")


def words_of(step: Step) -> tuple[str, list[str]]:
    """A changed option: its flag, and the words to add to the command."""
    flags = flags_of(step.file)
    flag, value = flags[step.where % len(flags)], VALUES[step.what % len(VALUES)]
    way = step.where // len(flags) % 8
    if way == 0:
        return flag, [flag]
    if way == 1:
        return flag, [f"{flag}={value}"]
    if way == 2:
        return f"{flag}x", [f"{flag}x", value]
    return flag, [flag, value]


def in_words(step: Step) -> str:
    """What a step does."""
    _, words = words_of(step)
    return brief(" ".join(map(repr, words)), 100)


@contextlib.contextmanager
def _not_working(module: str) -> Iterator[None]:
    from trainer.data import packing

    read_all = packing._read_all

    def stop(*_: object, **__: object) -> NoReturn:
        raise SystemExit(0)

    with contextlib.ExitStack() as stack:
        if module in _WORK:
            stack.enter_context(mock.patch(_WORK[module], stop))
        stack.enter_context(mock.patch("trainer.data.packing._read_all", lambda plan, _: read_all(plan, 1)))
        stack.enter_context(mock.patch("search.show.html.packed_plotly", return_value=PLOTLY))
        yield


def try_options(attempt: Try) -> list[Verdict]:
    steps = [step for step in attempt.steps if step.how == OPTIONS]
    if not steps:  # as they are
        return [_run(module, [], []) for module in BASES]
    module = steps[0].file
    names: list[str] = []
    extra: list[str] = []
    for step in steps:
        if step.file == module:
            flag, words = words_of(step)
            values = [word.removeprefix(f"{flag}=") for word in words]
            names += [flag, *(value[:100] for value in values if value.strip(" .s"))]
            extra += words
    names += ["is more than is asked for", "r/n"]
    return [_run(module, extra, names)]


def _run(module: str, extra: list[str], names: list[str]) -> Verdict:
    verdict = _judged(module, extra, names)
    if not Path(PIPE).is_fifo():
        return Verdict("wrong success", f"{module} {' '.join(extra)[:200]}: a file stands where a pipe was", "pipe")
    return verdict


def _judged(module: str, extra: list[str], names: list[str]) -> Verdict:
    if module in ("search.run", "search.refit"):
        ran, found = start_nothing(module, *BASES[module], *extra)
        return judge(ran, lambda: wrong_request(found), names=names, files=[])
    with _not_working(module):
        did = run(module, *BASES[module], *extra)
    return judge(did, lambda: "", names=names, files=[])


def wrong_request(found: dict[str, Any], max_params: int | None = None) -> str:
    """What is wrong with a search that would begin now, or nothing."""
    from trainer.config import TrainConfig
    from trainer.model.classifier import num_parameters

    if "request" not in found:
        return "" if found == {} else "no request"
    request, assignment = found["request"], found["assignment"]
    if request.trials < 1 or assignment is None:
        return f"a search of {request.trials} trials that hands out none"
    config = TrainConfig.from_json(assignment.config.to_json())
    limit = request.max_params or max_params
    if limit is not None and num_parameters(config.model) > limit:
        return f"a model of {num_parameters(config.model):,} parameters where {limit:,} are allowed"
    for name, value in assignment.params.items():
        has = config.to_json()["model"].get(name, config.to_json().get(name))
        if has != value:
            return f"a trial whose {name} is {has}, not {value} as drawn"
    return ""


def _lay_space(valid: Path) -> None:
    link_tree(valid / PACKED, Path(PACKED))
    shutil.copy(valid / SPACE, ".")


def try_space(attempt: Try) -> list[Verdict]:
    shutil.rmtree("r", ignore_errors=True)
    what = ("--data", PACKED, "--space", SPACE, "--name", "n", "--results", "r", "--epochs", 1)
    ran, found = start_nothing("search.run", "--trials", 3, "--max-params", f"{MAX_PARAMS // 1000}K", *what)
    names = [*attempt.names, "--max-params", "--epochs", "--space", "num_folds"]
    return [judge(ran, lambda: wrong_request(found, MAX_PARAMS), names=names, files=[SPACE])]


DOORS: Final = (
    Door("options", 14, dict.fromkeys(BASES, (OPTIONS,)), lay, try_options, fast_share=8),
    Door("space", 12, {SPACE: ("toml", "bytes")}, _lay_space, try_space, fast_share=8),
)
