"""What losses on features want of a teacher is told before a study begins."""

import pytest
import torch
from torch import nn

from autokd.candidate import KnownTeacher
from autokd.config import Config
from autokd.data import SearchData, load_data
from autokd.errors import ConfigError, TeacherError
from autokd.spaces import Space, build_space
from autokd.study.insight import check_objectives, check_taps
from autokd.study.teaching import Faculty
from autokd.types import TeacherCard


class Layered(nn.Module):
    """Shows two maps, or one."""

    def __init__(self, *, has_back=True):
        super().__init__()
        self.front = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU())
        self.back = nn.Sequential(nn.Conv2d(8, 8, 3, 2, padding=1), nn.ReLU())
        self.head = nn.Linear(8, 10)
        self.has_back = has_back

    def forward(self, views):
        maps = self.front(views)
        return self.head((self.back(maps) if self.has_back else maps).mean((2, 3)))


@pytest.fixture(scope="module")
def data() -> SearchData:
    return load_data(Config(train_limit=100))


def build(recipe: str, **pins: str) -> Space:
    space = build_space("mobile", recipe=recipe, input_shape=(1, 8, 8), n_classes=10)
    space.pin(pins)
    return space


def gather(network: nn.Module, **options) -> Faculty:
    known = KnownTeacher(network=network.eval(), **options)
    card = TeacherCard(name="t", digest="t", n_params=1, val_accuracy=0.9, latency_ms=1.0)
    return Faculty(
        teachers={"teacher": known}, card=card, models=(), training_s=0.0, accuracies={},
        trained=(), latency_device="",
    )  # fmt: skip


@pytest.mark.parametrize("option", ["student_tap", "teacher_tap"])
def test_modules_to_read_features_from_need_a_loss_that_reads_them(option):
    plain, wanting = build("default"), build("features", feature_loss="hint")
    config = Config(**{option: ("stem",)})
    check_taps(config, space=wanting)
    check_taps(Config(), space=plain)
    flag = f"--{option.replace('_', '-')}"
    for space, sample in ((plain, None), (wanting, {"feature_loss": "none"})):
        with pytest.raises(ConfigError, match=f"^`{flag}` must go with a loss .*, got stem where"):
            check_taps(config, space=space, sample=sample)


@pytest.mark.parametrize(
    ("taps", "pins", "message"),
    [
        ({"teacher_tap": ("front",)}, {}, "`--teacher-tap` must not be given with --loss crd, .*"),
        ({"student_tap": ("stem",)}, {"feature_loss": "rkd"}, "`--student-tap` must not .* rkd"),
        ({"teacher_tap": ("front",)}, {"feature_loss": "fsp"}, "`--teacher-tap` must be given 2 t"),
        (
            {"student_tap": ("stem",), "teacher_tap": ("front", "back")},
            {"feature_loss": "hint"},
            "`--student-tap` must be given 2 times, as --loss hint",
        ),
    ],
)
def test_a_loss_that_cannot_do_with_the_named_modules_is_refused(taps, pins, message):
    with pytest.raises(ConfigError, match=message) as caught:
        check_taps(Config(**taps), space=build("features", **pins))
    assert "\n" not in str(caught.value)


def test_modules_are_looked_for_before_the_study_on_every_teacher_that_is_heard(data):
    space = build("features", feature_loss="hint")
    check_objectives(gather(Layered(), teacher_taps=("front",)), space=space, data=data, seed=0)
    for option in ("teacher", "student"):
        faculty = gather(Layered(), **{f"{option}_taps": ("frnt",)})
        with pytest.raises(ConfigError, match=f"`--{option}-tap` must name a module .*, got frnt"):
            check_objectives(faculty, space=space, data=data, seed=0)
        check_objectives(faculty, space=build("default"), data=data, seed=0)
        check_objectives(faculty, space=space, data=data, seed=0, sample={"feature_loss": "none"})


def test_a_teacher_too_short_for_a_flow_is_told_before_the_study(data):
    faculty = gather(Layered(has_back=False))
    check_objectives(faculty, space=build("features", feature_loss="crd"), data=data, seed=0)
    with pytest.raises(TeacherError, match="must show 2 layers for --loss fsp"):
        check_objectives(faculty, space=build("features"), data=data, seed=0)


def test_looking_draws_no_random_number(data):
    faculty, space = gather(Layered()), build("features")
    before = torch.get_rng_state()
    check_objectives(faculty, space=space, data=data, seed=0)
    assert torch.equal(before, torch.get_rng_state())
