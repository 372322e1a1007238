"""The gazes of a student and its teacher at the same pictures, compared."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from scipy import stats
from torch import Tensor, nn

from autokd.candidate import find_gaze, watch
from autokd.data import SearchData
from autokd.distillation import Tap
from autokd.errors import StudyError, TeacherError
from autokd.exporters import OnnxNetwork
from autokd.reports import Look, correlate_maps
from autokd.teachers import AnyTeacher, Committee, Teacher

__all__ = [
    "Gazes",
    "Similarity",
    "TeacherGaze",
    "ask_int8",
    "choose_classes",
    "compare_gazes",
    "mean_similarity",
    "watch_teacher",
]

_BLIND = (
    "`--teacher` must be made of PyTorch modules to show where it looks, got {name}; search with "
    "the same network as timm:, torchvision: or python:"
)
_BATCH = 256
_RESAMPLES = 9999


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class Similarity:
    """A mean over pictures of how alike two networks look.

    Attributes:
        mean: Of Pearson's correlations, from -1 to 1.
        ci95: Both ends of the bootstrap's 95 % interval; none of fewer than two pictures.
        n: Pictures.
    """

    mean: float
    ci95: tuple[float, float] | None
    n: int


@final
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TeacherGaze:
    """Where a teacher looks, which is the same for all students.

    Attributes:
        indices: Of the pictures in the validation split.
        images: Pixels in 0..255.
        labels: Their classes.
        says: Classes that the teacher chooses.
        maps: What speaks for them, in [0, 1].
        layer: Module and size of its map, that was looked at.
    """

    indices: Int64[Tensor, " n"]
    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]
    says: Int64[Tensor, " n"]
    maps: Float[Tensor, "n h w"]
    layer: str


@final
@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Gazes:
    """What two networks choose for pictures, and what in them speaks for it.

    Attributes:
        indices: Of the pictures in the validation split.
        images: Pixels in 0..255.
        labels: Their classes.
        teacher_says: Classes that the teacher chooses.
        student_says: Classes that the student chooses.
        teacher_maps: Where the teacher looks, in [0, 1].
        student_maps: Where the student looks, in [0, 1].
        similarities: Of both maps; not a number where one of them is the same everywhere.
        layers: What was looked at, by `student` and `teacher`: module and size of its map.
    """

    indices: Int64[Tensor, " n"]
    images: UInt8[Tensor, "n c h w"]
    labels: Int64[Tensor, " n"]
    teacher_says: Int64[Tensor, " n"]
    student_says: Int64[Tensor, " n"]
    teacher_maps: Float[Tensor, "n h w"]
    student_maps: Float[Tensor, "n h w"]
    similarities: Float[Tensor, " n"]
    layers: dict[str, str]

    @property
    def shuffled(self) -> Float[Tensor, " n"]:
        """Of each of the teacher's maps and the student's of the next picture."""
        return correlate_maps(self.teacher_maps, self.student_maps.roll(1, dims=0))

    def choose(self, n_shown: int) -> list[int]:
        """Places of pictures that show both kinds, from the most to the least alike.

        Args:
            n_shown: How many are wanted; half of them are pictures on which both networks
                disagree, or as many as there are.

        Returns:
            Those on which they agree, then the others; evenly spread over the similarities.
        """
        agreed = self.teacher_says == self.student_says
        ranked = torch.argsort(self.similarities.nan_to_num(-2.0), descending=True).tolist()
        yes = [place for place in ranked if agreed[place]]
        no = [place for place in ranked if not agreed[place]]
        n_no = min(len(no), max(n_shown // 2, n_shown - len(yes)))
        return [*_spread(yes, n_shown - n_no), *_spread(no, n_no)]

    def build_look(self, place: int, *, classes: Sequence[str]) -> Look:
        """One of the pictures, to be drawn.

        Args:
            place: As `choose` gives it.
            classes: Names, in the order of the labels.

        Returns:
            The picture and both maps.
        """
        similarity = float(self.similarities[place])
        return Look(
            picture=self.images[place],
            label=classes[int(self.labels[place])],
            teacher_says=classes[int(self.teacher_says[place])],
            student_says=classes[int(self.student_says[place])],
            teacher_map=self.teacher_maps[place],
            student_map=self.student_maps[place],
            similarity=None if math.isnan(similarity) else similarity,
        )


def watch_teacher(
    teacher: AnyTeacher, *, data: SearchData, n_pictures: int, seed: int
) -> TeacherGaze:
    """Asks the teacher about pictures of the validation split, and where it looks.

    Args:
        teacher: Made of modules; of several teachers, the mean of their maps is taken.
        data: Of the study.
        n_pictures: At the most; drawn at random.
        seed: Of the draw.

    Returns:
        What a student can be compared with.

    Raises:
        TeacherError: The teacher shows no maps.
    """
    order = np.random.default_rng(seed).permutation(len(data.val_labels))[:n_pictures]
    indices = torch.from_numpy(np.sort(order))
    images = data.val_images[indices]
    on_device = images.to(teacher.device)
    eyes = [(_Eye(one), weight) for one, weight in _members(teacher)]
    says = choose_classes(teacher, on_device)
    maps, layers = torch.zeros(len(images), *images.shape[2:]), list[str]()
    for eye, weight in eyes:
        tap = find_gaze(eye, on_device, role="teacher")
        if tap is None:
            raise TeacherError(_BLIND.format(name=eye.name))
        maps += weight * watch(eye, on_device, tap=tap, classes=says)
        layers.append(_name_layer(tap))
    return TeacherGaze(
        indices=indices,
        images=images,
        labels=data.val_labels[indices],
        says=says.cpu(),
        maps=maps,
        layer=" + ".join(layers),
    )


def compare_gazes(
    student: nn.Module, gaze: TeacherGaze, *, says: Int64[Tensor, " n"] | None = None
) -> Gazes:
    """Asks a student about the same pictures, and where it looks.

    Each of both is asked about the class that it chooses itself.

    Args:
        student: Takes views in [0, 1], in evaluation mode.
        gaze: Of its teacher.
        says: Classes that are chosen in its place, by its INT8 file, which has no gradients.

    Returns:
        What was found.

    Raises:
        StudyError: The student shows no maps.
    """
    images = gaze.images.to(next(student.parameters()).device)
    says = choose_classes(student, images) if says is None else says.to(images.device)
    tap = find_gaze(student, images, role="student")
    if tap is None:
        raise StudyError(
            "the student must have a map larger than 1x1 that its logits depend on, got none; "
            "choose another one by --trial"
        )
    maps = watch(student, images, tap=tap, classes=says)
    return Gazes(
        indices=gaze.indices,
        images=gaze.images,
        labels=gaze.labels,
        teacher_says=gaze.says,
        student_says=says.cpu(),
        teacher_maps=gaze.maps,
        student_maps=maps,
        similarities=correlate_maps(gaze.maps, maps),
        layers={"student": _name_layer(tap), "teacher": gaze.layer},
    )


def ask_int8(file: Path | None, gaze: TeacherGaze) -> Int64[Tensor, " n"] | None:
    """What an INT8 file says of the pictures; none where there is no such file."""
    return None if file is None else OnnxNetwork(file).predict(gaze.images).argmax(1)


def mean_similarity(values: Float[Tensor, " n"], *, seed: int) -> Similarity | None:
    """The mean of similarities with its interval.

    Args:
        values: Those that are no numbers are left out.
        seed: Of the bootstrap.

    Returns:
        Mean and percentile interval over pictures; none where there is no number.

    References:
        Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3.
    """
    known = values[~values.isnan()].double().numpy()
    if len(known) == 0:
        return None
    ci95 = None
    if len(known) > 1:
        interval = stats.bootstrap(
            (known,),
            np.mean,
            n_resamples=_RESAMPLES,
            method="percentile",
            rng=np.random.default_rng(seed),
        ).confidence_interval
        ci95 = float(interval.low), float(interval.high)
    return Similarity(mean=float(known.mean()), ci95=ci95, n=len(known))


@torch.no_grad()
def choose_classes(network: nn.Module, images: UInt8[Tensor, "n c h w"]) -> Int64[Tensor, " n"]:
    """The class of each picture that a network holds for the likeliest."""
    return torch.cat([network(part.float() / 255).argmax(1) for part in images.split(_BATCH)])


class _Eye(nn.Module):
    """A teacher whose logits have gradients."""

    def __init__(self, teacher: Teacher) -> None:
        """Looks through a teacher.

        Args:
            teacher: Is not changed.

        Raises:
            TeacherError: It is a file whose modules do not run one by one.
        """
        super().__init__()
        if not teacher.has_features:
            raise TeacherError(_BLIND.format(name=teacher.name))
        self.name = teacher.name
        self.prepare, self.network = teacher.prepare, teacher.network
        self.training = False

    def forward(self, views: Tensor) -> Tensor:
        """As the teacher's, with gradients."""
        return self.network(self.prepare(views)).float()


def _members(teacher: AnyTeacher) -> list[tuple[Teacher, float]]:
    """The teachers of a committee, however deep, with their weights; the only one has 1."""
    if isinstance(teacher, Committee):
        return [
            (inner, weight * share)
            for member, weight in zip(teacher.members, teacher.weights, strict=True)
            for inner, share in _members(member)
        ]
    return [(teacher, 1.0)]


def _name_layer(tap: Tap) -> str:
    return f"{tap.path} {tap.height}x{tap.width}"


def _spread(places: Sequence[int], n: int) -> list[int]:
    """Evenly spaced ones, both ends among them."""
    if n <= 0:
        return []
    if n >= len(places):
        return list(places)
    if n == 1:
        return [places[len(places) // 2]]
    return [places[round(step * (len(places) - 1) / (n - 1))] for step in range(n)]
