"""Rules of the house that no other tool checks."""

import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import autokd

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "torchvision", "nni", "optuna", "mlflow", "timm", "onnxruntime", "onnx")


def loaded_by(statement: str) -> list[str]:
    code = f"{statement}\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "statement",
    [
        "import autokd",
        "import autokd.config",
        "from autokd.cli import cli\nfrom click.testing import CliRunner\n"
        "assert CliRunner().invoke(cli, ['--help']).exit_code == 0",
        "from autokd.cli import cli\nfrom click.testing import CliRunner\n"
        "assert CliRunner().invoke(cli, ['search', '--help']).exit_code == 0",
    ],
)
def test_help_loads_nothing_heavy(statement):
    assert not set(loaded_by(statement)) & set(HEAVY)


def test_the_public_names_resolve():
    for name in autokd.__all__:
        assert getattr(autokd, name) is not None
    with pytest.raises(AttributeError):
        _ = autokd.nothing


def test_no_public_name_is_also_a_room():
    rooms = {path.stem for path in (ROOT / "autokd").iterdir()}
    assert not rooms & set(autokd.__all__)
    assert not rooms & {"utils", "common", "helpers", "misc"}


def test_a_public_function_stays_a_function_when_its_rooms_are_loaded():
    importlib.import_module("autokd.study.session")
    assert callable(autokd.search)
    assert callable(autokd.export)


@pytest.mark.parametrize("folder", ["autokd", "search_spaces", "tests", "benchmarks"])
def test_no_file_is_long(folder):
    limits = {"search_spaces": 150}
    for path in (ROOT / folder).rglob("*.py"):
        n_lines = len(path.read_text(encoding="utf-8").splitlines())
        assert n_lines <= limits.get(folder, 400), f"{path} has {n_lines} lines"


def test_the_lock_names_versions_and_no_address():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    for line in lines:
        assert line.startswith("#") or re.fullmatch(r"[A-Za-z0-9_.\-]+==[^\s/@]+", line), line


def test_every_dependency_is_in_the_lock():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["dev"]
    names = {re.split(r"[<>=\[ ]", line)[0].lower().replace("_", "-") for line in wanted}
    lock = (ROOT / "requirements.lock").read_text().splitlines()
    locked = {line.split("==")[0].lower().replace("_", "-") for line in lock}
    assert not names - locked


def list_commands():
    """Each command of `autokd` with its name, those of groups too."""
    from autokd.cli import cli

    for name, command in cli.commands.items():
        inner = getattr(command, "commands", {})
        yield from ((f"{name} {one}", other) for one, other in inner.items())
        yield name, command


def test_every_option_is_told_of_in_the_readme_or_the_docs():
    notes = {"decisions.md", "log.md", "benchmarks.md"}  # of those who build it
    pages = [path for path in (ROOT / "docs").glob("*.md") if path.name not in notes]
    told = "\n".join(page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *pages])
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", told))
    silent = [
        f"autokd {name} {one.opts[0]}"
        for name, command in list_commands()
        for one in command.params
        if one.param_type_name == "option" and not named & {*one.opts, *one.secondary_opts}
    ]
    assert not silent, "say in README.md or docs/ what these are for"


def test_each_page_of_the_docs_can_be_found():
    starts = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    told = "\n".join(page.read_text(encoding="utf-8") for page in starts)
    for page in (ROOT / "docs").glob("*.md"):
        assert f"docs/{page.name}" in told, page.name


def test_the_commands_of_the_readme_exist():
    from click.testing import CliRunner

    from autokd.cli import cli

    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\s*autokd ([a-z]+)(?: ([a-z]+))?", readme, flags=re.MULTILINE)
    assert {first for first, _ in commands} >= {"search", "front", "export", "ui", "spaces"}
    for first, second in commands:
        words = [first, second] if first == "spaces" and second else [first]
        assert CliRunner().invoke(cli, [*words, "--help"]).exit_code == 0, words
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make ([a-z-]+)", readme, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    ours = re.sub(r"^ray .*$", "", readme, flags=re.MULTILINE)  # Ray has options of its own
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", ours))
    known = {o for _, c in list_commands() for p in c.params for o in (*p.opts, *p.secondary_opts)}
    assert not options - known - {"--debug", "--help"}
