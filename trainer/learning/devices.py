"""Devices that training runs on."""

import torch

from trainer.common.errors import UserError, first_line


def default_device() -> str:
    """cuda if there is one, else cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str) -> torch.device:
    """The device, such as "cpu" or "cuda:1". Raises UserError if torch cannot compute on it."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = "there is no such device" if "device string" in str(error) else first_line(error)
        here = "cpu or cuda" if torch.cuda.is_available() else "cpu"
        raise UserError(f"{device}: {reason}; on this machine use {here}", field="device") from error
