"""What to say where there is too little memory for a candidate."""

import torch

__all__ = ["explain_memory"]


def explain_memory(error: Exception) -> str:
    """Why a candidate that does not fit failed.

    Args:
        error: What was raised while it was built, measured or trained.

    Returns:
        The reason; empty where it is another error.
    """
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return f"out of memory: {str(error).splitlines()[0] if str(error) else 'no detail'}"
    if isinstance(error, RuntimeError) and "can't allocate memory" in str(error):
        return "out of memory: the CPU allocator could not give what was asked for"
    return ""
