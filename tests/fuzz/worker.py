"""A process that tries inputs one after the other, so that one that hangs or crashes ends this process alone.

    python -m tests.fuzz.worker VALID SCRATCH

Reads an input a line, as JSON: the door's name and its steps. Answers with a line: the verdict, what the steps did in
words, and seconds. ``Worker`` is the other side.
"""

import contextlib
import faulthandler
import json
import os
import queue
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TextIO

from tests.fuzz.attempt import Verdict, worst
from tests.fuzz.doors import Door, Step, Try, own
from tests.fuzz.mutations import DoesNotApply

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 60.0
"""Wall-clock seconds after which an input counts as one that hangs; machines may be busy"""
START_SECONDS: Final = 240.0
MEMORY_BYTES: Final = 6 * 2**30
"""More than any command here needs"""
FAULTS: Final = "faults.txt"


@dataclass(frozen=True)
class Answer:
    """What became of one input."""

    verdict: Verdict
    words: str
    """What was changed"""
    seconds: float
    """CPU time"""


class Worker:
    """Starts the process, asks it, and starts another one after a crash or a hang."""

    def __init__(self, valid: Path, scratch: Path, patience: float = PATIENCE) -> None:
        """``valid`` is where the valid inputs are, or are to be made."""
        self._valid, self._scratch, self._patience = valid, scratch, patience
        self._process: subprocess.Popen[str] | None = None
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()

    def ask(self, door: str, steps: Sequence[Step]) -> Answer:
        """Try one input."""
        process = self._started()
        assert process.stdin is not None
        began = time.monotonic()
        try:
            process.stdin.write(json.dumps([door, steps]) + "\n")
            process.stdin.flush()
            line = self._answers.get(timeout=self._patience)
        except (queue.Empty, BrokenPipeError):
            line = ""
        if line:
            fields = json.loads(line)
            return Answer(Verdict(**fields["verdict"]), fields["words"], fields["seconds"])
        is_hang = process.poll() is None and time.monotonic() - began >= self._patience
        status = self._end()
        words = (self._scratch / "words.txt").read_text() if (self._scratch / "words.txt").exists() else str(steps)
        outcome, what = (
            ("hang", f"{self._patience:.0f} s") if is_hang else ("crash", f"the process ended with {status}")
        )
        return Answer(Verdict(outcome, f"{what}; {self._stack()}", f"{outcome} {self._stack()}"), words, self._patience)

    def close(self) -> None:
        self._end()

    def _started(self) -> subprocess.Popen[str]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(parents=True)
        settings = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(self._scratch / "cache"), "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fuzz.worker", str(self._valid), str(self._scratch)],
            cwd=ROOT,
            env={**os.environ, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(self._scratch / "stderr.txt").open("w"),
            text=True,
        )
        self._answers = queue.SimpleQueue()
        threading.Thread(target=self._listen, args=(self._process, self._answers), daemon=True).start()
        try:
            ready = self._answers.get(timeout=START_SECONDS)
        except queue.Empty:
            ready = ""
        if ready != "ready\n":
            self._end()
            raise RuntimeError(f"the worker did not start: {(self._scratch / 'stderr.txt').read_text()[-3000:]}")
        return self._process

    @staticmethod
    def _listen(process: subprocess.Popen[str], answers: "queue.SimpleQueue[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answers.put(line)
        answers.put("")

    def _end(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=2)
        process.kill()
        return process.wait()

    def _stack(self) -> str:
        """The last place of ours in the stack that was written when it crashed."""
        path = self._scratch / FAULTS
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        ours = [line.strip() for line in lines if str(ROOT) in line and "tests/fuzz" not in line]
        if ours:
            return ours[0].removeprefix(f'File "{ROOT}/')
        said = (self._scratch / "stderr.txt").read_text(errors="replace").splitlines()
        return f"no stack: {said[-1][:200]}" if said else "no stack"


def try_input(door: Door, steps: list[Step], valid: Path, memory: dict[str, Any]) -> tuple[Verdict, str]:
    """Lay a valid input into the working folder, mutate and try it: the verdict, and the mutations in words."""
    from tests.fuzz.doors import options
    from tests.fuzz.mutations.every import MUTATIONS

    door.lay(valid)
    attempt = Try(valid, [], steps, memory)
    words = []
    for step in steps:
        if step.how == options.OPTIONS:
            attempt.changed.append(step.file)
            words.append(f"{step.file}: {options.in_words(step)}")
            continue
        own(Path(step.file))
        try:
            done = MUTATIONS[step.how](Path(step.file), step.where, step.what)
        except DoesNotApply:
            continue
        except Exception:
            if step.file not in attempt.changed:
                raise
            continue  # what the first mutation left cannot be read by the second
        attempt.changed.append(step.file)
        words.append(f"{step.file}: {done}")
    told = "; ".join(words)
    if steps and not words:
        return Verdict("skipped"), ""
    _words_file().write_text(told, errors="backslashreplace")
    try:
        return worst(door.attempt(attempt)), told
    except Exception as error:  # the check of a result: what a command left cannot even be looked at
        from tests.fuzz.attempt import _origin

        words_of_error = f"its result cannot be read: {_origin(error)}: {str(error)[:300]}"
        return Verdict("wrong success", words_of_error, f"wrong success {_origin(error)}"), told


def _words_file() -> Path:
    return Path.cwd().parent / "words.txt"


def main(answers: TextIO) -> None:
    from tests.fuzz import valid
    from tests.fuzz.doors import planted
    from tests.fuzz.doors.every import DOORS

    doors = DOORS | planted.DOORS
    root, scratch = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    faults = (scratch / FAULTS).open("w")
    faulthandler.enable(faults)
    faulthandler.dump_traceback_later(10**6, file=faults)
    import torch

    torch.set_num_threads(1)
    valid.make(root)
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    memories: dict[str, dict[str, Any]] = {}
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        name, steps = json.loads(line)
        here = scratch / "input"
        shutil.rmtree(here, ignore_errors=True)
        here.mkdir()
        os.chdir(here)
        faulthandler.dump_traceback_later(PATIENCE - 10, file=faults)
        began = time.process_time()
        verdict, words = Verdict("accepted"), "the valid input"
        if name not in memories:  # the valid input is accepted, and shows what is right
            memories[name] = {}
            verdict, _ = try_input(doors[name], [], root, memories[name])
            if verdict.outcome == "refused":
                verdict = Verdict("other status", "the valid input was refused", "valid input refused")
            shutil.rmtree(here)
            here.mkdir()
            os.chdir(here)
        if not verdict.is_failure and steps:
            verdict, words = try_input(doors[name], [Step(*step) for step in steps], root, memories[name])
        faulthandler.cancel_dump_traceback_later()
        answer = {"verdict": asdict(verdict), "words": words, "seconds": time.process_time() - began}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    pipe = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what is printed meanwhile is no answer
    main(pipe)
