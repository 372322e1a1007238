"""Texts that tell which device a number is of."""

import re

__all__ = ["is_same_device"]

_HASH, _FORMER_HASH = re.compile(r" \[[0-9a-f]{10}\]"), re.compile(r" \[[0-9a-f]{8}\]")


def is_same_device(known: str, now: str) -> bool:
    """Whether a text about a device is about the same one now.

    Args:
        known: With a fingerprint, perhaps of an older version, which hashed all flags.
        now: With a fingerprint of today.

    Returns:
        Whether they are equal; of an older one the hash is not looked at.
    """
    return known == now or _FORMER_HASH.sub("", known) == _HASH.sub("", now)
