"""Reads studies into a pool of candidates: every finished trial, checked by itself and against the others."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np

from ensemble.candidates.pool import NOT_FINISHED, Candidate, Pool, require_any, without_folder
from trainer.common.errors import UserError
from trainer.common.storage import base_name
from trainer.config import TrainConfig
from trainer.metrics import accuracy, log_loss
from trainer.rundir import Result, RunDir
from trainer.studydir import STUDY_JSON, TRIALS, VALIDATION, StudyDir
from trainer.validation import Validation

OTHER_MAX_FRAMES: Final = "config.json: another max_frames than most candidates have"
ROUNDING: Final = 0.02  # a row of float16 probabilities may miss 1 by this much
LOG_LOSS_ROUNDING: Final = 0.02  # of the log loss of float16 probabilities plus 1: those below 6e-5 have few digits


def _missing(study: StudyDir, request: dict[str, Any]) -> list[str]:
    """Trials that must have been, as later ones are there, but have no folder."""
    asked, numbers = request.get("trials"), {int(run.path.name) for run in study.trials()}
    if request.get("warm_start") or not isinstance(asked, int):  # the first may be of earlier studies
        return []
    return [f"{number:04d}" for number in range(min(max(numbers, default=0), asked)) if number not in numbers]


def open_pool(path: Path) -> Pool:
    """Read a study. A broken trial is left out with its reason; a broken study raises UserError."""
    study = StudyDir(path)
    request = study.read_request()
    label_names = tuple(request["label_names"])
    validation = study.read_validation(len(label_names), request.get("validation_sha256"))
    study.require_signs(label_names)
    base = {"num_folds": TrainConfig().num_folds, "fold": TrainConfig().fold, **request["base_config"]}
    split = (base["num_folds"], base["fold"] if validation.folds is None else None)  # that all trials hold out
    candidates: list[Candidate] = []
    left_out: dict[str, str] = {}
    for run in study.trials():
        try:
            fingerprint = request.get("data_fingerprint")
            candidate = _read_trial(run, validation, len(label_names), fingerprint, split)
            study.require_own(run, run.read_config(), request)
            if request.get("validation_sha256") is not None and not run.has_hashes:  # 0.1 left neither
                raise UserError("done.json: sha256: is missing; bring the file back as the training left it")
            candidates.append(candidate)
        except UserError as error:
            left_out[run.path.name] = without_folder(error, run.path)
    left_out |= dict.fromkeys(_missing(study, request), f"has no folder in {TRIALS}: its files were removed")
    most = Counter(candidate.model.max_frames for candidate in candidates).most_common(1)
    left_out |= {item.name: OTHER_MAX_FRAMES for item in candidates if item.model.max_frames != most[0][0]}
    candidates = [item for item in candidates if item.name not in left_out]
    require_any((path,), candidates, left_out)
    left_out = dict(sorted(left_out.items()))
    return Pool(
        studies=(path,),
        candidates=candidates,
        left_out=left_out,
        label_names=label_names,
        validation=validation,
        data=request["data"],
        fingerprint=request.get("data_fingerprint"),
    )


def open_pools(studies: Sequence[tuple[str, Path]]) -> Pool:
    """Read studies, each given with the user's name for it, as one pool.

    If there are several, trials are named asl/0007. A trial that an earlier study holds too is left out, so that a
    study and its copy have each trial once. Raises UserError as ``open_pool`` does, or if two studies are the same or
    were not validated on the same sequences.
    """
    if len(studies) == 1:
        return open_pool(studies[0][1])
    if len({path.resolve() for _, path in studies}) < len(studies):
        raise UserError(f"the same study twice ({', '.join(shown for shown, _ in studies)})", field="studies")
    names = [base_name(str(path.resolve())) for _, path in studies]
    if len(set(names)) < len(names):
        names = [shown for shown, _ in studies]
    first, *others = pools = [open_pool(path) for _, path in studies]
    for (shown, _), other in zip(studies[1:], others, strict=True):
        if different := _difference(first, other):
            raise UserError(
                f"{shown}: {different} than {studies[0][0]}; only models validated on the same sequences can be chosen "
                "among",
                field="studies",
            )
    candidates: list[Candidate] = []
    left_out: dict[str, str] = {}
    holders: dict[str, str] = {}  # of predictions, by their hash
    for name, pool in zip(names, pools, strict=True):
        left_out |= {f"{name}/{trial}": reason for trial, reason in pool.left_out.items()}
        for candidate in pool.candidates:
            holder = holders.setdefault(sha256(candidate.val_probs().tobytes()).hexdigest(), name)
            if pool.max_frames != first.max_frames:
                left_out[f"{name}/{candidate.name}"] = OTHER_MAX_FRAMES
            elif holder != name:
                left_out[f"{name}/{candidate.name}"] = f"{holder} holds the same trial"
            else:
                candidates.append(dataclasses.replace(candidate, name=f"{name}/{candidate.name}"))
    paths = tuple(path for _, path in studies)
    return first.replace(studies=paths, candidates=candidates, left_out=left_out)


def _difference(first: Pool, other: Pool) -> str | None:
    """How another study differs in what all candidates of an ensemble must share; None if it does not."""
    if other.label_names != first.label_names:
        return "has other signs"
    if other.fingerprint != first.fingerprint:
        return "was searched on another packed dataset"
    if not np.array_equal(other.validation.sequence_ids, first.validation.sequence_ids):
        held_out = ", ".join(map(str, np.unique(other.validation.participants)))
        return f"holds out other participants ({held_out})"
    dealt, others = (
        None if folds is None else folds.tolist() for folds in (first.validation.folds, other.validation.folds)
    )
    if dealt != others:
        return "deals participants into other folds"
    return None


def _read_trial(
    run: RunDir, validation: Validation, num_signs: int, fingerprint: str | None, split: tuple[int, int | None]
) -> Candidate:
    """Raises UserError if the trial is unfinished, or any of its files is broken, of another study or changed."""
    if not run.is_done:
        raise UserError(NOT_FINISHED)
    config, result = run.read_config(), run.read_result()
    num_folds, fold = split
    if config.num_folds != num_folds or fold not in (None, config.fold):
        raise UserError(
            f"config.json: fold: {config.fold} of {config.num_folds}, but the study's is {fold} of {num_folds}"
        )
    if config.all_participants:
        raise UserError(
            "trained on all participants: nothing to select it by; it can be shipped for the trial that it repeats"
        )
    run.require_own_result(config, result)
    if fingerprint not in (None, result.data_fingerprint):
        raise UserError(f"done.json: data_fingerprint: is another packed dataset's than {STUDY_JSON} has")
    labels = validation.labels if validation.folds is None else validation.labels[validation.folds == config.fold]
    probs = run.read_val_probs()
    require_probabilities(probs, (len(labels), num_signs), "val_probs.npy")
    _require_result(result, probs, labels)
    return Candidate(
        name=run.path.name,
        run=run,
        model=config.model,
        precision="float32",
        probs=None,
        num_parameters=result.num_parameters,
        val_accuracy=accuracy(probs, labels),
        val_log_loss=log_loss(probs, labels),
        fold=config.fold,
    )


def require_probabilities(probs: np.ndarray, shape: tuple[int, int], name: str) -> None:
    """Raises UserError, which calls them ``name``, if they are not of a shape [n, signs] or no probabilities."""
    if probs.shape != shape:
        raise UserError(f"{name}: shape {list(probs.shape)}, not {list(shape)} as {VALIDATION} says")
    rows = probs.sum(axis=1, dtype=np.float32)
    if not (np.allclose(rows, 1, atol=ROUNDING) and (probs >= 0).all()):  # a NaN fails too
        raise UserError(f"{name}: rows that are no probabilities")


def _require_result(result: Result, probs: np.ndarray, labels: np.ndarray) -> None:
    """Raises UserError if a result is not what the trial's own predictions give.

    float16 keeps the likeliest sign (trainer.metrics.to_half), but one that ties with others may count either way.
    """
    of_label = probs[np.arange(len(labels)), labels]
    is_largest = of_label == probs.max(axis=1)
    is_alone = (probs == of_label[:, None]).sum(axis=1) == 1
    least, most = float(np.mean(is_largest & is_alone)), float(np.mean(is_largest))
    if not least - 1e-9 <= result.val_accuracy <= most + 1e-9:
        raise UserError(
            f"done.json: val_accuracy: {result.val_accuracy:.4f}, but val_probs.npy gives {accuracy(probs, labels):.4f}"
        )
    found = log_loss(probs, labels)
    if not abs(found - result.val_log_loss) <= LOG_LOSS_ROUNDING * (1 + found):  # a NaN is not
        raise UserError(f"done.json: val_log_loss: {result.val_log_loss:.4f}, but val_probs.npy gives {found:.4f}")
