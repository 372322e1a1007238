import re
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from autokd.config import Config, build_config, check_options, parse_duration
from autokd.errors import ConfigError
from autokd.types import Recipe


def test_flags_win_over_the_file(tmp_path):
    file = tmp_path / "search.yaml"
    file.write_text("budget: 7\nmax-latency-ms: 2\n")
    config = build_config(file, flags={"budget": 9, "seed": None})
    assert (config.budget, config.max_latency_ms, config.seed) == (9, 2.0, 0)


def test_pins_of_file_and_flags_are_joined(tmp_path):
    file = tmp_path / "search.yaml"
    file.write_text("fix: {temperature: 4, alpha: 0.5}\n")
    config = build_config(file, flags={"fix": {"alpha": "0"}})
    assert config.fix == {"temperature": "4", "alpha": "0"}


def test_every_fault_is_reported_at_once():
    with pytest.raises(ConfigError) as error:
        build_config(flags={"budget": 0, "sampler": "grid", "timeout_s": "soon", "sed": 1})
    lines = str(error.value).splitlines()
    assert len(lines) == 4
    assert any("`--budget` must be" in line and "got 0" in line for line in lines)
    assert any("`--timeout` must be a duration" in line for line in lines)
    assert any("did you mean `seed`?" in line for line in lines)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("30m", 1800), ("1.5h", 5400), ("1d", 86400)]
)
def test_a_duration_is_read(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "5 parsecs", "-3s"])
def test_rubbish_is_no_duration(text):
    with pytest.raises(ConfigError, match="duration"):
        build_config(flags={"timeout_s": text})


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "just text"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, content):
    file = tmp_path / "bad.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        build_config(file)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="readable"):
        build_config(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("data", "space", "name"),
    [
        ("digits", "mobile", "digits-mobile"),
        ("npz:some/where/fashion-mnist.npz", "resnet", "fashion-mnist-resnet"),
        ("folder:pictures/cats/", "my/own.py:build", "cats-own"),
        ("torchvision:CIFAR10", "hub:DARTS", "CIFAR10-DARTS"),
    ],
)
def test_a_study_is_named_after_data_and_space(data, space, name):
    assert Config(data=data, space=space).study_name == name


@pytest.mark.parametrize("value", ["timm:x", ["timm:x"], ("timm:x",)])
def test_one_teacher_is_given_as_a_text_or_a_list(value):
    config = build_config(flags={"teacher": value})
    assert config.teacher == ("timm:x",)
    assert config.model_dump(mode="json")["teacher"] == "timm:x"
    assert config.study_name == Config().study_name


def test_one_of_several_may_stand_alone_in_a_file(tmp_path):
    file = tmp_path / "search.yaml"
    file.write_text("teacher-mean: 0.5\nteacher-std: [0.2, 0.3]\nstudent-tap: stages.0\n")
    config = build_config(file)
    assert (config.teacher_mean, config.teacher_std) == ((0.5,), (0.2, 0.3))
    assert (config.student_tap, config.teacher_tap) == (("stages.0",), ())
    file.write_text("teacher-mean: null\n")
    assert build_config(file).teacher_mean is None


def test_several_teachers_are_a_list_in_a_file(tmp_path):
    file = tmp_path / "search.yaml"
    file.write_text("teacher: [auto, timm:x]\nteacher-weights: a.pt\nassistant: auto\n")
    config = build_config(file)
    assert config.teacher == ("auto", "timm:x")
    assert config.teacher_weights == (Path("a.pt"),)
    assert config.assistant == ("auto",)
    dumped = config.model_dump(mode="json")
    assert (dumped["teacher"], dumped["teacher_weights"]) == (["auto", "timm:x"], "a.pt")
    assert Config.model_validate(dumped) == config
    assert build_config(file, flags={"teacher": ("auto",)}).teacher == ("auto",)


def test_the_settings_of_a_study_before_there_were_several_teachers_are_read():
    old = {"teacher": "timm:x", "teacher_weights": "w.pt", "data": "digits"}
    config = Config.model_validate(old)
    assert (config.teacher, config.teacher_weights) == (("timm:x",), (Path("w.pt"),))
    dumped = config.model_dump(mode="json")
    assert {key: dumped[key] for key in old} == old
    assert Config.model_validate({**old, "teacher_weights": None}).teacher_weights == ()
    assert Config().model_dump(mode="json")["teacher_weights"] is None


@pytest.mark.parametrize("value", [None, "none", ["none"], []])
def test_no_assistant_is_said_in_several_ways(value):
    assert Config(assistant=value) == Config()
    assert Config(assistant=value).model_dump(mode="json")["assistant"] is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"teacher": []}, r"`--teacher` must name a teacher, got \[\]"),
        ({"teacher": ["auto", 3]}, "`--teacher` must be a valid string, got 3"),
        ({"teacher_vote": "max"}, "`--teacher-vote` must be 'mean', 'accuracy' or 'confidence'"),
        ({"assistant": ["none", "auto"]}, "`--assistant` must have nothing beside none, got"),
    ],
)
def test_wrong_teachers_are_one_line(flags, message):
    with pytest.raises(ConfigError, match=message) as error:
        build_config(flags=flags)
    assert len(str(error.value).splitlines()) == 1


def test_a_study_name_is_no_path():
    with pytest.raises(ConfigError, match="study"):
        build_config(flags={"study": "../escape"})


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("dkd", ("dkd", False, False, "none")),
        ("cross_entropy", ("cross_entropy", False, False, "none")),
        ("standardised+soft_targets", ("soft_targets", True, False, "none")),
        ("soft_targets+attention", ("soft_targets", False, False, "attention")),
        ("CRD + adaptive + dist + standardised", ("dist", True, True, "crd")),
    ],
)
def test_a_loss_pins_fields_of_the_recipe(text, fields):
    names = ("loss", "is_standardised", "is_adaptive", "feature_loss")
    config = build_config(flags={"loss": text})
    assert config.loss_fields == dict(zip(names, fields, strict=True))
    recipe = TypeAdapter(Recipe).validate_python(config.loss_fields)
    assert recipe.loss == fields[0]


def test_without_a_loss_the_recipe_is_left_alone():
    assert Config().loss_fields == {}


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        ({"student": "mobile"}, "digits-mobile"),
        ({"student": "mobile:width=0.5,depth=2"}, "digits-mobile-width-0.5-depth-2"),
        ({"student": "resnet", "precision": "int8"}, "digits-resnet-precision-int8"),
        ({"student": "timm:resnet18", "loss": "dkd"}, "digits-timm-resnet18-loss-dkd"),
        ({"student": "python:my/net.py:build", "epochs": 30}, "digits-net-build-epochs-30"),
        (
            {"student": "vit", "alpha": 0.5, "temperature": 4, "learning_rate": 0.01},
            "digits-vit-alpha-0.5-temperature-4-lr-0.01",
        ),
    ],
)
def test_the_study_of_one_student_is_named_after_it_and_its_training(flags, name):
    assert build_config(flags=flags).study_name == name


def test_options_of_one_student_pin_fields_of_the_recipe():
    flags = {"loss": "dkd", "alpha": 0.5, "temperature": 2, "learning_rate": 0.01}
    fields = build_config(flags=flags).recipe_fields
    recipe = TypeAdapter(Recipe).validate_python(fields)
    assert (recipe.loss, recipe.alpha, recipe.alpha_end) == ("dkd", 0.5, 0.5)
    assert (recipe.temperature, recipe.learning_rate) == (2, 0.01)
    assert Config().recipe_fields == {}


def test_a_temperature_is_where_a_schedule_of_ones_own_begins():
    assert build_config(flags={"temperature": 6.0}).recipe_fields == {
        "temperature": 6.0,
        "temperature_schedule": "constant",
    }
    fixed = {"temperature": 6.0, "fix": {"temperature_schedule": "decay"}}
    assert build_config(flags=fixed).recipe_fields == {"temperature": 6.0}


def test_the_order_of_the_words_of_a_loss_does_not_matter():
    first = build_config(flags={"loss": "attention+dkd+standardised"})
    assert first.loss == build_config(flags={"loss": "standardised+dkd+attention"}).loss


@pytest.mark.parametrize(
    ("text", "rule", "remedy"),
    [
        ("dkdd", "be made of standardised, adaptive, soft_targets", "did you mean `dkd`?"),
        ("standardized+dkd", "be made of", "did you mean `standardised`?"),
        ("12345", "be made of", "join several with \\+"),
        ("", "be made of", "join several with \\+"),
        ("dkd+dist", "name exactly one loss on logits", "it can be soft_targets, dkd"),
        ("attention", "name exactly one loss on logits", "it can be soft_targets, dkd"),
        ("dkd+hint+fsp", "name at most one loss on features", "it can be hint"),
        ("cross_entropy+hint", "have nothing beside cross_entropy", "labels alone"),
        ("dkd+dkd", "name each word once", "leave one out"),
    ],
)
def test_a_wrong_loss_is_one_line(text, rule, remedy):
    with pytest.raises(
        ConfigError, match=f"^`--loss` must {rule}.*, got '.*'; .*{remedy}"
    ) as error:
        build_config(flags={"loss": text, "budget": 0})
    assert len(str(error.value).splitlines()) == 2


@pytest.mark.parametrize("text", ["pictures/more", "npz:more.npz", "npz:/some/where/more.npz"])
def test_pictures_without_labels_are_named_by_a_folder_or_a_file(text):
    config = build_config(flags={"unlabelled": text, "unlabelled_limit": "12"})
    assert (str(config.unlabelled), config.unlabelled_limit) == (text, 12)
    assert Config.model_validate(config.model_dump(mode="json")) == config


def test_without_them_a_study_has_the_settings_that_it_had():
    config = Config()
    assert (config.unlabelled, config.unlabelled_limit) == (None, None)


def test_a_limit_of_them_is_at_least_one():
    with pytest.raises(ConfigError, match=r"`--unlabelled-limit` must be .* 1, got 0"):
        build_config(flags={"unlabelled_limit": 0})


def test_a_file_may_name_options_as_the_command_line_does(tmp_path):
    file = tmp_path / "search.yaml"
    file.write_text(
        "timeout: 30m\nlatency-timeout: 10s\nlr: 0.01\nno-rungs: true\nteacher-mean: 0.5,0.4,0.3\n"
    )
    config = build_config(file)
    assert (config.timeout_s, config.latency_timeout_s, config.rungs) == (1800, 10, False)
    assert (config.learning_rate, config.teacher_mean) == (0.01, (0.5, 0.4, 0.3))


def test_a_name_that_cannot_be_one_is_refused_in_words():
    with pytest.raises(ConfigError, match=r"`--study` must be text that matches .*, got 'a b'"):
        build_config(flags={"study": "a b"})


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"unlabelled_limit": 9},
            "`--unlabelled-limit` must go with `--unlabelled`, got 9 with",
        ),
        (
            {"cpus_per_trial": 2},
            "`--cpus-per-trial` must go with `--ray`, got 2.0 without it;",
        ),
        ({"gpus_per_trial": 0.5}, "`--gpus-per-trial` must go with `--ray`, got 0.5 without it;"),
        (
            {"latency_table": "t.csv", "latency_batch": 8},
            "`--latency-batch` must go with a `--target` that measures, got 8 with `--latency-ta",
        ),
        (
            {"latency_table": "t.csv", "latency_threads": 2},
            "`--latency-threads` must go with a `--target` that measures, got 2 with `--latency-t",
        ),
    ],
)
def test_an_option_that_nobody_would_look_at_is_refused(flags, message):
    config = build_config(flags=flags)
    with pytest.raises(ConfigError, match=re.escape(message)) as error:
        check_options(config, command="search")
    assert len(str(error.value).splitlines()) == 1
    check_options(config, command="search", is_known=True)
    beside = {"unlabelled": "more", "ray": "auto", "target": "onnxruntime"}
    check_options(build_config(flags={**flags, **beside}), command="search")


def test_what_nobody_has_said_is_not_refused():
    check_options(build_config(flags={"latency_table": "t.csv"}), command="search")
    kept = Config().model_dump(mode="json")  # as a study or a worker has it
    check_options(Config.model_validate(kept), command="search")


@pytest.mark.parametrize(
    ("command", "flags", "told"),
    [
        ("search", {"alpha": 2}, "distill"),
        ("search", {"rounds": 0}, "federate"),
        ("search", {"budget": 0}, "search"),
        ("distill", {"alpha": 2}, "distill"),
        ("distill", {"budget": 0}, "search"),
        ("distill", {"nonsense_option": 1}, "distill"),
        ("federate", {"rounds": 0}, "federate"),
        ("federate", {"epochs": 0}, "federate"),
        ("federate", {"teacher_vote": "x"}, "distill"),
    ],
)
def test_a_wrong_option_sends_one_to_the_help_that_has_it(command, flags, told):
    with pytest.raises(ConfigError, match=f"see `autokd {told} --help`"):
        build_config(flags=flags, command=command)
