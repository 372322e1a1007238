import pytest
import torch
from torch import nn

from autokd.distillation.feature_reader import FeatureReader
from autokd.distillation.features import FeatureObjective, build_feature_objective
from autokd.errors import BuildError, ConfigError, TeacherError
from tests.unit.distillation.feature_networks import SmallCnn, build, draw_pictures

KINDS = ["hint", "attention", "fsp", "rkd", "crd"]
PAIRS = [  # student, teacher
    ("cnn", "wide_cnn"), ("mobile", "vit"), ("small_vit", "wide_cnn"), ("cnn", "swin"),
    ("cnn", "resnet18"), ("small_vit", "vit"),
]  # fmt: skip


def make(kind, student, teacher, **options) -> FeatureObjective:
    return build_feature_objective(
        kind,
        student=student,
        teacher_network=teacher,
        student_example=draw_pictures(),
        teacher_example=draw_pictures(),
        **options,
    )


def read(network, taps, pictures=None):
    with FeatureReader(network, taps) as reader:
        network(draw_pictures() if pictures is None else pictures)
        return reader.features


def measure(objective, student, teacher):
    ours = read(student, objective.student_taps)
    return objective(ours, read(teacher, objective.teacher_taps))


@pytest.mark.parametrize(("student_name", "teacher_name"), PAIRS)
@pytest.mark.parametrize("kind", KINDS)
def test_any_student_learns_from_any_teacher(kind, student_name, teacher_name):
    student, teacher = build(student_name).train(), build(teacher_name, seed=1).eval()
    objective = make(kind, student, teacher)
    learning = [*student.parameters(), *objective.parameters()]
    optimiser = torch.optim.SGD(learning, lr=0.003, momentum=0.9)
    pictures, losses = draw_pictures(), []
    theirs = read(teacher, objective.teacher_taps)
    with FeatureReader(student, objective.student_taps) as ours:
        for _ in range(20):
            student(pictures)
            loss = objective(ours.features, theirs)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(learning, 1.0)
            optimiser.step()
            losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert any(p.grad is not None and p.grad.any() for p in student.parameters())
    assert all(p.grad is not None for p in objective.parameters())
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("kind", ["attention", "rkd"])
def test_a_student_that_is_the_teacher_has_no_loss(kind):
    student = build("cnn").eval()
    objective = make(kind, student, student)
    assert measure(objective, student, student).item() == pytest.approx(0, abs=1e-6)
    assert list(objective.parameters()) == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_makes_the_projectors_and_touches_nothing_else(kind):
    student, teacher = build("cnn"), build("wide_cnn")
    random = torch.random.get_rng_state()
    first, again, other = (make(kind, student, teacher, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), random)
    weights = [torch.cat([p.flatten() for p in o.parameters()] or [torch.ones(1)])
               for o in (first, again, other)]  # fmt: skip
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(weights[0], weights[2]) == (kind in ("attention", "rkd"))


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_is_float32_under_autocast(kind):
    student, teacher = build("cnn"), build("vit")
    objective = make(kind, student, teacher)
    with torch.autocast("cpu", torch.bfloat16):
        loss = measure(objective, student, teacher)
    assert loss.dtype == torch.float32
    loss.backward()


def test_the_weight_is_the_one_of_the_paper():
    student, teacher = build("cnn").eval(), build("wide_cnn").eval()
    objective = make("hint", student, teacher)
    ours = read(student, objective.student_taps)
    theirs = read(teacher, objective.teacher_taps)
    projected = [p(x) for p, x in zip(objective.student_projectors, ours, strict=True)]
    errors = [(a - b).square().mean() for a, b in zip(projected, theirs, strict=True)]
    by_hand = 100 * torch.stack(errors).mean().item()
    assert objective(ours, theirs).item() == pytest.approx(by_hand, rel=1e-4)


def test_a_teacher_that_sees_larger_pictures_is_resized():
    student, teacher = build("cnn"), build("wide_cnn")
    large = draw_pictures(side=96)
    objective = build_feature_objective(
        "attention", student=student, teacher_network=teacher,
        student_example=draw_pictures(), teacher_example=large,
    )  # fmt: skip
    theirs = read(teacher, objective.teacher_taps, large)
    assert theirs[0].shape[2:] == (48, 48)
    assert objective(read(student, objective.student_taps), theirs).isfinite()


def test_named_taps_are_used_in_their_order():
    student, teacher = build("cnn"), build("resnet18")
    objective = make(
        "hint", student, teacher,
        student_paths=["stages.1", "stages.0"], teacher_paths=["layer2", "layer1.0"],
    )  # fmt: skip
    assert [tap.path for tap in objective.student_taps] == ["stages.1", "stages.0"]
    assert [tap.path for tap in objective.teacher_taps] == ["layer2", "layer1.0"]


def test_names_of_one_side_get_the_nearest_of_the_other():
    student, teacher = build("cnn"), build("resnet18")
    objective = make("attention", student, teacher, teacher_paths=["layer1", "layer2"])
    assert [tap.path for tap in objective.student_taps] == ["stages.1", "stages"]
    objective = make("attention", student, teacher, student_paths=["stages.0"])
    assert [tap.path for tap in objective.teacher_taps] == ["relu"]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("rkd", {"student_paths": ["stages"]}, "`--student-tap` must not be given with --loss rkd"),
        ("hint", {"teacher_paths": ["layer9"]}, "`--teacher-tap` must name a module"),
        ("fsp", {"teacher_paths": ["layer1"]}, "`--teacher-tap` must be given 2 times"),
        (
            "hint",
            {"student_paths": ["stages"], "teacher_paths": ["layer1", "layer2"]},
            "`--student-tap` must be given 2 times",
        ),
    ],
)
def test_names_that_cannot_be_used_are_one_line(kind, options, message):
    with pytest.raises(ConfigError) as caught:
        make(kind, build("cnn"), build("resnet18"), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_a_teacher_without_features_is_refused(kind):
    script = torch.jit.trace(build("cnn").eval(), draw_pictures())
    with pytest.raises(TeacherError, match=f"`--loss {kind}` needs features .* exposes none"):
        make(kind, build("cnn"), script)


@pytest.mark.parametrize("kind", KINDS)
def test_a_student_without_features_cannot_be_built(kind):
    class Sum(nn.Module):
        def forward(self, pictures):
            return pictures.mean(3).flatten(1)[:, :10]

    with pytest.raises(BuildError, match=f"student must .* --loss {kind}, got"):
        make(kind, Sum(), SmallCnn())


def test_a_flow_needs_two_layers_of_both():
    one = nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 10))
    with pytest.raises(TeacherError, match="`--teacher` must show 2 layers for --loss fsp, got 0"):
        make("fsp", SmallCnn(), one)
    with pytest.raises(BuildError, match=r"student must show 2 maps .* for --loss fsp, got 1"):
        make("fsp", one, SmallCnn())
