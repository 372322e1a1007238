"""The command of a configuration gives that configuration."""

import shlex

import pytest

from autokd.cli import cli
from autokd.cli.options import tidy
from autokd.config import build_config, write_command


def read(command):
    program, name, *words = shlex.split(command)
    assert program == "autokd"
    context = cli.commands[name].make_context(name, words)
    flags = {
        key: value
        for key, value in context.params.items()
        if key not in ("file", "as_json", "out", "is_registered")
    }
    return name, build_config(flags=tidy(flags))


@pytest.mark.parametrize(
    "flags",
    [
        {},
        {"study": "a-b", "budget": 7, "seed": 3, "refit": False, "bank": False},
        {"data": "npz:my pictures.npz", "teacher": ("timm:resnet18", "python:a:b")},
        {"teacher_weights": ("a b.pt",), "teacher": ("timm:resnet18",), "teacher_finetune": True},
        {"fix": {"temperature": "4", "width_1": "16"}, "loss": "dkd+hint", "max_latency_ms": 0.5},
        {"teacher_mean": ["0.5", "0.25", "0.1"], "teacher_std": ["1", "1", "1"], "views": 4},
        {"student": "mobile:width=0.5", "alpha": 0.5, "seeds": 3, "baseline": True},
        {"student": "mobile", "site": "a", "sites": ["b", "a"], "public": "npz:x.npz", "rounds": 2}
        | {"meeting": "MEETING"},
    ],
)
def test_a_command_gives_the_configuration_that_it_was_written_of(flags):
    config = build_config(flags=flags)
    name, again = read(write_command(config))
    of_one = "federate" if "site" in flags else "distill"
    assert name == (of_one if "student" in flags else "search")
    assert again.model_copy(update={"study": config.study}) == config
    assert again.study_name == config.study_name


@pytest.mark.parametrize("n_views", [1, 4, 16])
def test_a_site_gets_its_views_again(n_views):
    """Of which there are 4 where nobody says it, and 16 at other commands."""
    flags = {"student": "mobile", "site": "a", "meeting": "/elsewhere", "views": n_views}
    command = write_command(build_config(flags=flags))
    assert read(command)[1].views == (16 if n_views == 4 else n_views)  # 16 is that of nothing said
    assert (f"--views {n_views}" in command) == (n_views != 4)
    assert command.endswith("--meeting MEETING")


def test_what_is_of_the_machine_or_secret_is_left_out():
    config = build_config(
        flags={
            "storage": "postgresql://me:secret@host/db",
            "tracking_uri": "http://me:secret@host",
            "workers": 2,
            "runs_dir": "elsewhere",
            "study": "s",
        }
    )
    assert write_command(config) == "autokd search --study s"
