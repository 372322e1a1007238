"""Writing a network as a program of torch.export."""

from pathlib import Path

import torch
from torch import nn

from autokd.errors import ExportError
from autokd.types import InputShape

__all__ = ["export_program"]


def export_program(network: nn.Module, path: Path, *, shape: InputShape) -> Path:
    """Writes a network for any number of pictures.

    Args:
        network: Takes pictures in [0, 1], gives logits; left in evaluation mode, on the CPU.
        path: The file to write.
        shape: Channels, height, width.

    Returns:
        The file.

    Raises:
        ExportError: Something in the network cannot be traced.
    """
    batch = {0: torch.export.Dim("batch", min=1)}
    try:
        program = torch.export.export(
            network.cpu().eval(), (torch.zeros(2, *shape),), dynamic_shapes=(batch,)
        )
    except (RuntimeError, ValueError, TypeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ExportError(f"student must be exportable by torch.export, got {reason}") from error
    torch.export.save(program, path)
    return path
