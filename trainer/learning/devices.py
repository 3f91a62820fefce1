"""Devices that training runs on."""

import torch

from trainer.common.errors import UserError, first_line
from trainer.common.fields import shown


def default_device() -> str:
    """cuda if there is one, else cpu."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: str | torch.device) -> torch.device:
    """The device, such as "cpu" or "cuda:1". Raises UserError if torch cannot compute on it."""
    if not isinstance(device, str | torch.device):
        raise UserError(f"must be text such as cpu, not {shown(device)}", field="device")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:
        reason = "there is no such device" if "device string" in str(error) else first_line(error)
        here = "cpu or cuda" if torch.cuda.is_available() else "cpu"
        raise UserError(f"{device}: {reason}; on this machine use {here}", field="device") from error
