"""`autokd spaces`: list, show, copy."""

from pathlib import Path

import click

from autokd.cli.root import cli
from autokd.errors import ConfigError

__all__ = ["spaces_group"]


@cli.group("spaces")
def spaces_group() -> None:
    """List, show and copy the bundled search spaces and recipes."""


@spaces_group.command("list")
def list_command() -> None:
    """Name and first line of each."""
    from autokd.spaces import list_spaces

    for name, text in list_spaces().items():
        click.echo(f"{name:<10} {text}")


@spaces_group.command("show")
@click.argument("name")
@click.option(
    "--shape",
    default="3,32,32",
    show_default=True,
    metavar="C,H,W",
    help="Pictures that the space adapts to.",
)
@click.option("--classes", "n_classes", type=click.IntRange(min=2), default=10, show_default=True)
def show_command(name: str, *, shape: str, n_classes: int) -> None:
    """Every dimension of a space, joined with its recipe, and what `autokd distill` takes of it."""
    sides = shape.split(",")
    if len(sides) != 3 or not all(side.strip().isdecimal() and int(side) for side in sides):
        raise ConfigError(f"`--shape` must be C,H,W such as 3,32,32, got {shape}")
    from autokd.spaces import describe_space

    channels, height, width = (int(side) for side in sides)
    space = describe_space(name, input_shape=(channels, height, width), n_classes=n_classes)
    first = space.first_choice()
    for dimension in space.dimensions:
        scale = " log" if dimension.is_log else ""
        step = f" step {dimension.step:g}" if dimension.step else ""
        values = (
            ", ".join(map(str, dimension.choices))
            or f"[{dimension.low:g}, {dimension.high:g}]{scale}{step}"
        )
        chosen = first[dimension.label]
        shown = f"{chosen:g}" if isinstance(chosen, float) else chosen
        click.echo(f"{dimension.room:<12} {dimension.label:<24} {values}; default {shown}")


@spaces_group.command("copy")
@click.argument("name")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
def copy_command(name: str, folder: Path) -> None:
    """Copy a bundled file, to be edited and passed with --space or --recipe."""
    from autokd.spaces import copy_space

    click.echo(copy_space(name, folder))
