"""The commands that docs/distillation.md names are such as autokd takes, dimensions and all."""

import re
import shlex
from pathlib import Path

import pytest

from autokd.cli import cli
from autokd.cli.options import tidy
from autokd.config import build_config, check_options, check_student
from autokd.study.joint_space import build_joint_space
from autokd.types import DataCard

PAGE = Path(__file__).parents[3] / "docs/distillation.md"


def read_commands():
    """Each command of the page, its lines joined."""
    blocks = re.findall(r"^```\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)
    return "".join(blocks).replace("\\\n", " ").splitlines()


def build_card(side):
    return DataCard(
        name="any", digest="", shape=(1, side, side), classes=tuple("0123456789"), mean=(0.5,),
        std=(0.5,), n_train=1000, n_val=200, n_test=200,
    )  # fmt: skip


def read_config(words):
    context = cli.commands[words[1]].make_context(words[1], words[2:])
    own = {"as_json", "out", "is_registered", "file"}
    flags = {name: value for name, value in context.params.items() if name not in own}
    return build_config(flags=tidy(flags))


@pytest.mark.parametrize("command", read_commands())
def test_a_command_of_the_page_is_one(command):
    words = shlex.split(command)
    config = read_config(words)
    check_options(config, command=words[1])
    if words[1] == "distill":
        check_student(config)
    card = build_card(config.image_size or 8)
    space = build_joint_space(config, card, has_assistant=bool(config.assistant))
    for label, value in config.fix.items():
        assert str(space.complete({})[label]).lower() == value


def test_each_command_of_the_page_has_a_study_of_its_own():
    names = [read_config(shlex.split(command)).study for command in read_commands()]
    assert len(set(names)) == len(names) > 10
    assert None not in names
