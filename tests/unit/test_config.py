import pytest

from autokd.config import Config, build_config, parse_duration
from autokd.errors import ConfigError


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


def test_a_study_name_is_no_path():
    with pytest.raises(ConfigError, match="study"):
        build_config(flags={"study": "../escape"})
