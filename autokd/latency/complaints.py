"""What a program that failed has said of it."""

from rich.text import Text

__all__ = ["last_complaint"]


def last_complaint(stderr: str) -> str:
    """The last line that says something, without the colours of a terminal.

    Args:
        stderr: All that the program has written there.

    Returns:
        The line; empty where there is none.
    """
    lines = [Text.from_ansi(line).plain.strip() for line in stderr.splitlines()]
    return next((line for line in reversed(lines) if line), "")
