"""TrainConfig as command-line options, and the devices that training runs on."""

import argparse
import dataclasses
from typing import Any, get_args, get_type_hints

import torch

from trainer.common.errors import UserError
from trainer.config import ModelConfig, TrainConfig
from trainer.data.dataset import PackedDataset


def add_options(parser: argparse.ArgumentParser, *, without: frozenset[str] = frozenset()) -> None:
    """One option a field of TrainConfig and of its model, and --device; fields in ``without`` are left out."""
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    for kind, skipped in ((ModelConfig, without | {"num_signs"}), (TrainConfig, without | {"model"})):
        hints = get_type_hints(kind)
        for item in dataclasses.fields(kind):
            if item.name in skipped:
                continue
            option, hint = f"--{item.name.replace('_', '-')}", hints[item.name]
            reads: dict[str, Any] = {"type": next(iter(get_args(hint)), hint)}  # int | None reads an int
            if hint is bool:
                reads = {"action": argparse.BooleanOptionalAction}
            parser.add_argument(option, default=argparse.SUPPRESS, help=f"default {item.default}", **reads)


def to_config(options: dict[str, Any], dataset: PackedDataset) -> TrainConfig:
    """The configuration that fields given as options ask for. Raises UserError for a value out of range."""
    try:
        return TrainConfig().replace(num_signs=dataset.num_signs, **options)
    except ValueError as error:
        name, _, rule = str(error).partition(" ")
        raise UserError(f"--{name.replace('_', '-')} {rule}") from error


def check_device(device: str) -> None:
    """Raise UserError if torch cannot compute on ``device``."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = "there is no such device" if "device string" in str(error) else str(error).splitlines()[0]
        here = "cpu or cuda" if torch.cuda.is_available() else "cpu"
        raise UserError(f"--device {device}: {reason}; on this machine use {here}") from error
