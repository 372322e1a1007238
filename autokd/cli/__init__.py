"""The command line: parses, calls, prints, exits. Whatever is heavy is imported when needed.

Each module beside this one adds its commands to the root as it is imported.
"""

from autokd.cli import (
    aligning,
    artefacts,
    distilling,
    explaining,
    federating,
    listing,
    measuring,
    searching,
)
from autokd.cli.root import cli
from autokd.cli.running import main

__all__ = [
    "aligning",
    "artefacts",
    "cli",
    "distilling",
    "explaining",
    "federating",
    "listing",
    "main",
    "measuring",
    "searching",
]
