"""What `--teacher` and `--assistant` ask for, alone and together."""

from pathlib import Path

import pytest

from autokd.config import Config
from autokd.errors import TeacherError
from autokd.teachers import build_assistant_requests, build_teacher_requests

A, B = Path("a.pt"), Path("b.pt")


def ask(*teachers, **options):
    return build_teacher_requests(Config(teacher=teachers, **options))


def test_each_teacher_of_a_zoo_gets_its_file_in_order():
    requests = ask("timm:x", "auto", "torchvision:y", "file:z.pt", teacher_weights=(A, B))
    assert [request.weights for request in requests] == [A, None, B, None]
    assert [request.kind for request in requests] == ["timm", "auto", "torchvision", "file"]
    assert [request.name for request in requests] == ["x", "", "y", "z.pt"]
    assert [request.is_trained for request in requests] == [False, True, False, False]


def test_options_go_to_the_teachers_that_can_use_them():
    requests = ask(
        "timm:x", "file:z.pt", "python:a:b", teacher_pretrained=True, teacher_finetune=True
    )
    assert [request.is_pretrained for request in requests] == [True, False, False]
    assert [request.is_trained for request in requests] == [True, False, True]
    assert all(request.has_knowledge for request in requests)


def test_the_same_network_with_other_weights_is_another_teacher():
    assert len(ask("timm:x", "timm:x", teacher_weights=(A, B))) == 2


@pytest.mark.parametrize(
    ("teachers", "options", "message"),
    [
        (("timm:x", "timm:y"), {"teacher_weights": A}, "their order, got 1 for 2; build"),
        (("timm:x", "auto"), {"teacher_weights": (A, B)}, "their order, got 2 for 1; build"),
        (("auto", "file:z"), {"teacher_weights": A}, "must go with timm:NAME .* got auto and file"),
        (("auto", "file:z"), {"teacher_pretrained": True}, "`--teacher-pretrained` must go with"),
        (("auto", "timm:y"), {}, "must be trained, got timm:y without weights"),
        (("auto", "tim:y"), {}, "must be auto, timm:NAME.*got 'tim:y'; did you mean timm"),
        (("auto", "auto"), {}, "must name each teacher once, got auto with the same weights"),
        (("timm:x",) * 2, {"teacher_weights": (A, A)}, "name each teacher once, got timm:x"),
        (("file:x", "file:y"), {"teacher_finetune": True}, "must have modules to train"),
    ],
)
def test_teachers_that_do_not_go_together_are_one_line(teachers, options, message):
    with pytest.raises(TeacherError, match=message) as error:
        ask(*teachers, **options)
    assert len(str(error.value).splitlines()) == 1


def test_assistants_are_trained_from_what_they_know():
    config = Config(
        teacher="timm:x", teacher_pretrained=True,
        assistant=("auto", "timm:y", "python:a:b", "file:z.pt", "auto"),
    )  # fmt: skip
    requests = build_assistant_requests(config)
    assert [request.is_trained for request in requests] == [True, True, True, False, True]
    assert [request.has_knowledge for request in requests] == [False, True, True, True, False]


def test_a_file_of_weights_is_blamed_where_an_assistant_can_be_fetched():
    options = {"assistant": "timm:resnet18", "teacher_pretrained": True}
    assert ask("auto", **options)[0].weights is None
    with pytest.raises(TeacherError, match=r"`--teacher-weights` must go with .*, got auto"):
        ask("auto", **options, teacher_weights=A)


def test_a_file_of_weights_is_not_for_assistants():
    config = Config(teacher="timm:x", teacher_weights=A, assistant="timm:y")
    (request,) = build_assistant_requests(config)
    assert request.weights is None
    assert not request.has_knowledge


def test_no_assistant_is_no_request():
    assert build_assistant_requests(Config()) == ()
    assert build_assistant_requests(Config(assistant="none")) == ()


@pytest.mark.parametrize("spec", ["atuo", "timm", "auto:x", "none:x"])
def test_a_wrong_assistant_is_refused_by_its_option(spec):
    with pytest.raises(TeacherError, match=f"`--assistant` must be auto, .* got '{spec}'"):
        build_assistant_requests(Config(assistant=spec))
