"""A light dual tower: any student for pictures, a small transformer for texts."""

import torch

from autokd.config import TowerConfig
from autokd.distillation import DualTower, ImageTower, Student, TextTower
from autokd.errors import SpaceError
from autokd.spaces import build_space, parse_student, pin_student
from autokd.teachers import ClipTeacher

__all__ = ["build_towers"]


def build_towers(
    config: TowerConfig, *, teacher: ClipTeacher, context: int, seed: int
) -> DualTower:
    """A dual tower that embeds in the teacher's space, its fresh weights drawn from a seed.

    Args:
        config: Its towers.
        teacher: Whose vocabulary, dimensions and normalisation of pictures it has.
        context: Tokens of a text at the most.
        seed: Of the weights.

    Returns:
        The towers in evaluation mode, on the CPU.

    Raises:
        SpaceError: There is no such image tower, or it cannot take such pictures.
    """
    side = config.image_size or teacher.side
    try:
        request = parse_student(config.image_tower)
        space = build_space(
            request.space, recipe="default", input_shape=(3, side, side), n_classes=teacher.n_dims
        )
        pin_student(space, request.values)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network, _ = space.freeze(space.complete({}))
            text = TextTower(
                n_tokens=teacher.n_tokens,
                padding=teacher.padding,
                context=context,
                width=config.text_width,
                layers=config.text_layers,
                heads=config.text_heads,
                n_dims=teacher.n_dims,
            )
    except SpaceError as error:
        text_of = str(error).replace("`--student", "`--image-tower")
        raise SpaceError(text_of.replace("`--space", "`--image-tower")) from error
    own = teacher.preprocessing
    student = Student(network, mean=own.mean, std=own.std)
    return DualTower(ImageTower(student), text).eval()
