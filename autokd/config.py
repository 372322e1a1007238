"""File and flags become one frozen, validated `Config`; every fault is reported at once."""

import difflib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import platformdirs
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WrapSerializer,
)
from pydantic_core import PydanticCustomError

from autokd.errors import ConfigError
from autokd.types import FeatureLoss, Loss, Scalar

__all__ = ["Config", "build_config", "find_cache", "load_config_file", "parse_duration"]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhd]?)")
_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}

_PREPARATIONS = ("standardised", "adaptive")
_LOGIT_LOSSES: tuple[str, ...] = get_args(Loss)
_FEATURE_LOSSES = tuple(name for name in get_args(FeatureLoss) if name != "none")
_LOSS_WORDS = (*_PREPARATIONS, *_LOGIT_LOSSES, *_FEATURE_LOSSES)


def parse_duration(text: object) -> object:
    """Seconds from `90`, `90s`, `30m`, `2h` or `1d`; anything else is passed on to validation.

    Args:
        text: What the user wrote.

    Returns:
        A number of seconds, or the value itself where it is no text.

    Raises:
        ValueError: The text is not a duration.
    """
    if not isinstance(text, str):
        return text
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ValueError("must be a duration such as 90s, 30m or 2h")
    return float(match[1]) * _SECONDS[match[2]]


def _as_texts(values: object) -> object:
    """Pins as typed on the command line, where a file has numbers."""
    if not isinstance(values, dict):
        return values
    return {str(key): str(value) for key, value in values.items()}


def _check_loss(text: str) -> str:
    """The words of `--loss` in one order, so that it does not matter how they were typed."""
    words = [word.strip().lower() for word in text.split("+")]
    for word in words:
        if word not in _LOSS_WORDS:
            near = difflib.get_close_matches(word, _LOSS_WORDS, n=1)
            remedy = f"did you mean `{near[0]}`?" if near else "join several with +"
            raise _loss_fault(f"be made of {', '.join(_LOSS_WORDS)}", remedy=remedy)
    if len(set(words) & set(_LOGIT_LOSSES)) != 1:
        remedy = f"it can be {', '.join(_LOGIT_LOSSES)}"
        raise _loss_fault("name exactly one loss on logits", remedy=remedy)
    if len(set(words) & set(_FEATURE_LOSSES)) > 1:
        remedy = f"it can be {', '.join(_FEATURE_LOSSES)}"
        raise _loss_fault("name at most one loss on features", remedy=remedy)
    if "cross_entropy" in words and len(words) > 1:
        remedy = "it is training on the labels alone"
        raise _loss_fault("have nothing beside cross_entropy", remedy=remedy)
    if len(set(words)) < len(words):
        raise _loss_fault("name each word once", remedy="leave one out")
    return "+".join(sorted(words, key=_LOSS_WORDS.index))


def _loss_fault(rule: str, *, remedy: str) -> PydanticCustomError:
    return PydanticCustomError("loss", "must {rule}", {"rule": rule, "remedy": remedy})


def _as_several(value: object) -> object:
    """A single value as a list of one; none as an empty one."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str | Path) else value


def _as_one(values: object, dump: Callable[[Any], Any]) -> object:
    """A list of one as its value and an empty one as none, as they were written before lists."""
    dumped = dump(values)
    return dumped if len(dumped) > 1 else next(iter(dumped), None)


def _check_teachers(names: tuple[str, ...]) -> tuple[str, ...]:
    """At least one teacher."""
    if not names:
        raise PydanticCustomError("teacher", "must name a teacher")
    return names


def _check_assistants(names: tuple[str, ...]) -> tuple[str, ...]:
    """No assistant at all, said by leaving the option out or by `none`."""
    if names == ("none",):
        return ()
    if "none" in names:
        raise PydanticCustomError("assistant", "must have nothing beside none")
    return names


_Names = Annotated[tuple[str, ...], BeforeValidator(_as_several), WrapSerializer(_as_one)]
_Paths = Annotated[tuple[Path, ...], BeforeValidator(_as_several), WrapSerializer(_as_one)]
Seconds = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]


class Config(BaseModel):
    """Everything a search needs to know; each field is an option of the command line.

    The descriptions are what `autokd search --help` shows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    data: str = Field(
        "digits",
        description="digits | npz:FILE | folder:DIR | torchvision:NAME | python:module:function",
    )
    image_size: int | None = Field(
        None,
        ge=4,
        le=1024,
        description="Side of the square that pictures of a folder are resized to, in pixels",
    )
    data_root: Path = Field(Path("data"), description="Where torchvision sets lie")
    download: bool = Field(False, description="Let torchvision fetch the set")
    train_limit: int | None = Field(
        None,
        ge=2,
        description="Use at most this many pictures for "
        "training and validation together, stratified",
    )
    unlabelled: Path | None = Field(
        None,
        description="DIR | npz:FILE with pictures without labels, from which students learn what "
        "the teacher says; must not hold the test split",
    )
    unlabelled_limit: int | None = Field(
        None, ge=1, description="Use at most this many of them, drawn at random"
    )
    val_ratio: float = Field(
        0.2, gt=0, lt=0.9, description="Share of the training pictures that is kept for choosing"
    )

    teacher: Annotated[_Names, AfterValidator(_check_teachers)] = Field(
        ("auto",),
        description="auto | timm:NAME | torchvision:NAME | file:PATH | python:module:function; "
        "may be repeated",
    )
    teacher_weights: _Paths = Field(
        (),
        description="State dict of the teacher: .pt, .pth, .th or .safetensors; of several "
        "teachers, one for each timm: and torchvision: among them, in their order",
    )
    teacher_vote: Literal["mean", "accuracy", "confidence"] = Field(
        "mean",
        description="What several teachers say together: mean (all count alike) | accuracy (the "
        "better on validation, the more) | confidence (the surer of a picture, the more)",
    )
    assistant: Annotated[_Names, AfterValidator(_check_assistants)] = Field(
        (),
        description="Network between teacher and student, taught by the teacher: none | auto (made "
        "only if the student is far smaller) | as --teacher; repeated, each is taught by the one "
        "before [default: none]",
    )
    teacher_pretrained: bool = Field(False, description="Let timm or torchvision fetch weights")
    teacher_finetune: bool = Field(
        False,
        description="Replace a head that does not fit the "
        "classes and train the teacher on the data",
    )
    teacher_image_size: int | None = Field(
        None, ge=4, le=1024, description="Side that the teacher wants its pictures in, in pixels"
    )
    teacher_mean: tuple[float, ...] | None = Field(
        None, description="Per channel, pixels in [0, 1]; what the teacher was trained with"
    )
    teacher_std: tuple[float, ...] | None = Field(
        None, description="Per channel; see --teacher-mean"
    )

    space: str = Field(
        "mobile", description="A bundled space (autokd spaces list), hub:NAME, or FILE.py:FUNCTION"
    )
    recipe: str = Field(
        "default",
        description="A bundled recipe or a YAML or JSON file in NNI's search-space schema",
    )
    loss: Annotated[str, AfterValidator(_check_loss)] | None = Field(
        None,
        description="Hold the study to one loss, whatever the recipe says: "
        f"{' | '.join(_LOGIT_LOSSES)}, with +{', +'.join(_PREPARATIONS)} "
        f"and one of +{', +'.join(_FEATURE_LOSSES)} if wanted",
    )
    views: int = Field(
        16,
        ge=1,
        le=10_000,
        description="Augmented views of each picture; what the teacher says of one is kept",
    )
    bank: bool = Field(
        True, description="Keep what the teacher says of each view, for all trials and studies"
    )
    student_tap: tuple[str, ...] = Field(
        (),
        description="Module of the student that a loss on features reads, as its "
        "path in named_modules(); repeatable [default: found]",
    )
    teacher_tap: tuple[str, ...] = Field((), description="The same of the teacher")
    fix: Annotated[dict[str, str], BeforeValidator(_as_texts)] = Field(
        default_factory=dict, description="Pin a dimension: --fix temperature=4"
    )

    study: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Name of the study; the same name goes on where it "
        "stopped [default: DATA-SPACE]",
    )
    budget: int = Field(50, ge=1, description="Trials of the whole study")
    timeout_s: Seconds | None = Field(
        None, description="Stop the search after 90s, 30m, 2h of the whole study"
    )
    sampler: Literal["auto", "tpe", "nsga2", "gp", "random"] = Field(
        "tpe",
        description="What proposes the candidates: auto (knows their latency, models their "
        "accuracy) | tpe | nsga2 | gp | random (Optuna's)",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Of splits, samples and trainings")
    max_latency_ms: float | None = Field(None, gt=0, description="Slower students are not trained")
    min_accuracy: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="Worse students are not on the front; of the validation split, in [0, 1]",
    )
    storage: str | None = Field(
        None, description="Any Optuna storage URL [default: a journal in the runs folder]"
    )

    workers: int | None = Field(
        None,
        ge=1,
        le=256,
        description="Students trained side by side, each on one thread "
        "[default: the number of cores; 1 on a GPU]",
    )
    rungs: bool = Field(
        True,
        description="Stop a trial early that is unlikely to enter the front; in studies of 12 "
        "trials or more",
    )
    checkpoints_gb: float = Field(
        2.0, ge=0, description="Room for trainings that may go on, in gibibytes"
    )
    epochs: int | None = Field(None, ge=1, description="Of one trial [default: from the data]")
    batch_size: int | None = Field(None, ge=2, description="[default: from the data]")
    refit: bool = Field(
        True, description="Train the front again, longer, beside its twins without distillation"
    )
    refit_epochs: int | None = Field(
        None, ge=1, description="Of one refit [default: half as many again as a trial's]"
    )
    seeds: int = Field(3, ge=1, le=100, description="Of the refit")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where students train")

    latency_threads: int = Field(1, ge=1, description="Threads of the runtime that is timed")
    latency_batch: int = Field(1, ge=1, description="Pictures per timed run")

    runs_dir: Path = Field(Path("mlruns"), description="Where studies, runs and artefacts lie")
    tracking_uri: str | None = Field(
        None,
        description="MLflow server [default: "
        "MLFLOW_TRACKING_URI, or a database in the runs folder]",
    )

    @property
    def study_name(self) -> str:
        """The name of the study, made from data and space where the user gave none."""
        if self.study is not None:
            return self.study
        data = self.data.rstrip("/").replace("\\", "/").split("/")[-1].split(":")[-1]
        space = self.space.split("/")[-1].split(":")[-1 if self.space.startswith("hub:") else 0]
        name = f"{data.split('.')[0]}-{space.removesuffix('.py')}"
        return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:100] or "study"

    @property
    def loss_fields(self) -> dict[str, Scalar]:
        """The fields of the recipe that `--loss` pins; what it does not name is off."""
        if self.loss is None:
            return {}
        words = self.loss.split("+")
        return {
            "loss": next(word for word in words if word in _LOGIT_LOSSES),
            "is_standardised": "standardised" in words,
            "is_adaptive": "adaptive" in words,
            "feature_loss": next((word for word in words if word in _FEATURE_LOSSES), "none"),
        }

    @property
    def study_dir(self) -> Path:
        """The folder of the study's own files."""
        return self.runs_dir / "studies" / self.study_name


def find_cache() -> Path:
    """The folder of what can be made again: pictures, teachers, what they know.

    Returns:
        AUTOKD_CACHE, or the user's cache folder.
    """
    return Path(os.environ.get("AUTOKD_CACHE") or platformdirs.user_cache_dir("autokd"))


def load_config_file(path: Path) -> dict[str, Any]:
    """The options of a YAML file.

    Args:
        path: A mapping of option to value; options as on the command line, with `-` or `_`.

    Returns:
        Option names with underscores to values, not validated yet.

    Raises:
        ConfigError: The file cannot be read or is no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration must be a readable file, got {path}: {error}") from error
    except yaml.YAMLError as error:
        line = str(error).replace("\n", " ")
        raise ConfigError(f"configuration must be YAML, got {path}: {line}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must be a mapping of options, got {type(values).__name__}")
    return {str(key).replace("-", "_"): value for key, value in values.items()}


def build_config(file: Path | None = None, *, flags: Mapping[str, object] | None = None) -> Config:
    """One validated configuration out of a file and flags; flags win.

    Args:
        file: A YAML file of options, or none.
        flags: Options given otherwise; a value of none means that it was not given.

    Returns:
        The configuration.

    Raises:
        ConfigError: Something is wrong; the message holds one line per fault.
    """
    values = load_config_file(file) if file is not None else {}
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    if "fix" in given and isinstance(values.get("fix"), dict):
        given["fix"] = {**values["fix"], **dict(given["fix"])}  # type: ignore[call-overload]
    try:
        return Config.model_validate({**values, **given})
    except ValidationError as error:
        lines = [_fault(fault, file=file, flags=given) for fault in error.errors()]
        raise ConfigError("\n".join(lines)) from error


def _fault(fault: Any, *, file: Path | None, flags: Mapping[str, object]) -> str:  # noqa: ANN401
    """One line for one of pydantic's faults."""
    name = str(fault["loc"][0]) if fault["loc"] else "configuration"
    where = "" if file is None or name in flags else f"{file}: "
    shown = f"--{name.replace('_', '-').removesuffix('-s')}" if name in flags else name
    if fault["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, list(Config.model_fields), n=1)
        remedy = f"did you mean `{near[0]}`?" if near else "see `autokd search --help`"
        return f"{where}`{shown}` must be an option of autokd; {remedy}"
    rule = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    rule = rule if rule.startswith("must ") else f"must be {rule}"
    remedy = fault.get("ctx", {}).get("remedy", "see `autokd search --help`")
    return f"{where}`{shown}` {rule}, got {fault['input']!r}; {remedy}"
