"""Every option of a search, with its rule and what `--help` says of it."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from autokd.config.values import (
    FEATURE_LOSSES,
    LOGIT_LOSSES,
    PREPARATIONS,
    SITE_PATTERN,
    Names,
    Paths,
    Seconds,
    as_numbers,
    as_several,
    as_texts,
    check_assistants,
    check_lessons,
    check_loss,
    check_sites,
    check_targets,
    check_teachers,
    split_names,
)
from autokd.types import Scalar

__all__ = ["Config"]


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
        description="Side of the square that pictures of a folder are resized to, in pixels "
        "[default: as they are where all are alike and none is over 512, else 224 at most]",
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

    teacher: Annotated[Names, AfterValidator(check_teachers)] = Field(
        ("auto",),
        description="auto | timm:NAME | torchvision:NAME | file:PATH | python:module:function; "
        "may be repeated",
    )
    teacher_weights: Paths = Field(
        (),
        description="State dict of the teacher: .pt, .pth, .th or .safetensors; of several "
        "teachers, one for each timm: and torchvision: among them, in their order",
    )
    teacher_vote: Literal["mean", "accuracy", "confidence"] = Field(
        "mean",
        description="What several teachers say together: mean (all count alike) | accuracy (the "
        "better on validation, the more) | confidence (the surer of a picture, the more)",
    )
    assistant: Annotated[Names, AfterValidator(check_assistants)] = Field(
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
    teacher_mean: Annotated[tuple[float, ...] | None, BeforeValidator(as_numbers)] = Field(
        None, description="Per channel, pixels in [0, 1]; what the teacher was trained with"
    )
    teacher_std: Annotated[tuple[float, ...] | None, BeforeValidator(as_numbers)] = Field(
        None, description="Per channel; see --teacher-mean"
    )

    student: str | None = Field(
        None,
        min_length=1,
        description="The one student: SPACE:key=value,... (a bundled space or FILE.py:FUNCTION; "
        "what is not named takes its default) | timm:NAME | python:FILE.py:FUNCTION",
    )
    space: str = Field(
        "mobile", description="A bundled space (autokd spaces list), hub:NAME, or FILE.py:FUNCTION"
    )
    recipe: str = Field(
        "default",
        description="A bundled recipe or a YAML or JSON file in NNI's search-space schema",
    )
    loss: Annotated[str, AfterValidator(check_loss)] | None = Field(
        None,
        description="Hold the study to one loss, whatever the recipe says: "
        f"{' | '.join(LOGIT_LOSSES)}, with +{', +'.join(PREPARATIONS)} "
        f"and one of +{', +'.join(FEATURE_LOSSES)} if wanted",
    )
    alpha: float | None = Field(
        None,
        ge=0,
        le=1,
        description="Weight of the teacher's loss beside that of the labels, constant, in [0, 1] "
        "[default: 0.9; of a federation 0.5]",
    )
    temperature: float | None = Field(
        None,
        ge=0.05,
        le=1000,
        description="Softens teacher and student, constant [default: 4; of a federation 1]",
    )
    learning_rate: float | None = Field(
        None, gt=0, le=100, description="Peak of a warm-up and cosine schedule [default: 0.005]"
    )
    precision: Literal["fp32", "int8", "both"] | None = Field(
        None,
        description="What students are deployed in: fp32 | int8 (quantized after training, scored "
        "and timed in the runtime) | both (searched) [default: what the recipe says, else fp32]",
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
    student_tap: Annotated[tuple[str, ...], BeforeValidator(as_several)] = Field(
        (),
        description="Module of the student that a loss on features reads, as its "
        "path in named_modules(); repeatable [default: found]",
    )
    teacher_tap: Annotated[tuple[str, ...], BeforeValidator(as_several)] = Field(
        (), description="The same of the teacher"
    )
    fix: Annotated[dict[str, str], BeforeValidator(as_texts)] = Field(
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
        "auto",
        description="What proposes the candidates: auto (knows their latency, models their "
        "accuracy) | tpe | nsga2 | gp | random (Optuna's)",
    )
    learn_from: Annotated[Names, AfterValidator(check_lessons)] = Field(
        (),
        description="Earlier study of the same space, of other data or another teacher, that the "
        "sampler auto learns from; may be repeated, the most similar first",
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Of splits, samples and trainings")
    max_latency_ms: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="Slower students are not trained"
    )
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
    remote: bool = Field(
        False,
        description="Have students trained by `autokd worker` processes on any machines, which "
        "find their work in the database of --storage",
    )
    ray: str | None = Field(
        None,
        description="Have students trained as tasks of the Ray cluster at this address, as "
        "HOST:PORT or auto; latencies on its nodes with the resource latency_device",
    )
    cpus_per_trial: float = Field(1.0, gt=0, description="Of a Ray node, for one training")
    gpus_per_trial: float = Field(0.0, ge=0, description="Of a Ray node, for one training")
    rungs: bool = Field(
        True,
        description="Stop a trial early that is unlikely to enter the front; in studies of 12 "
        "trials or more",
    )
    warm_start: Literal["none", "relatives"] = Field(
        "none",
        description="What students begin with: none (fresh weights) | relatives (what they have "
        "in common with the most similar student that the study has trained)",
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
    seeds: int = Field(
        3,
        ge=1,
        le=100,
        description="Trainings of a finalist, each with a seed of its own",
    )
    baseline: bool = Field(
        False,
        description="Train the twin without distillation beside the student, with each seed, so "
        "that the gain has an interval",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where students train")

    site: str | None = Field(
        None,
        pattern=SITE_PATTERN,
        description="Name of this site in the meeting; no other site may have it",
    )
    meeting: Path | None = Field(
        None,
        description="Folder that all sites read and write; what a site says of the public "
        "pictures goes there, and nothing else of it",
    )
    public: Path | None = Field(
        None,
        description="DIR | npz:FILE with pictures without labels, the same at all sites; must not "
        "hold the test split",
    )
    public_limit: int | None = Field(
        None, ge=1, description="Use at most this many of them, the same at all sites"
    )
    rounds: int = Field(
        3, ge=1, le=99, description="Exchanges; there is one training more, the first one alone"
    )
    first_epochs: int | None = Field(
        None, ge=1, description="Epochs of the first training, alone [default: 3 x --epochs]"
    )
    balanced: bool = Field(
        False,
        description="Learn as if all classes were as frequent as each other, which a site that "
        "lacks some may want, alone and with the others",
    )
    n_sites: int | None = Field(
        None, ge=2, le=1000, description="How many sites meet; said by the first one at the least"
    )
    sites: Annotated[Names, BeforeValidator(split_names), AfterValidator(check_sites)] = Field(
        (), description="The names of all sites, A,B,C, instead of their number"
    )
    wait_s: Seconds = Field(
        3600.0, description="Patience for the others in each round; then it goes on without them"
    )
    vote: Literal["mean", "confidence", "pictures", "sharpened"] = Field(
        "mean",
        description="What all sites say together: mean (all count alike) | confidence (the surer "
        "of a picture, the more) | pictures (the more a site has learnt from, the more) | "
        "sharpened (the mean with less entropy)",
    )

    target: Annotated[Names, AfterValidator(check_targets)] = Field(
        (),
        description="What latencies are measured on: onnxruntime | onnxruntime:cuda | "
        "onnxruntime:tensorrt | onnxruntime:openvino | openvino | torch | torch:compiled | tflite "
        "| command:PROGRAM ... {model} ...; may be repeated, the first is what is searched for "
        "[default: onnxruntime]",
    )
    latency_threads: int = Field(1, ge=1, description="Threads of the runtime that is timed")
    latency_batch: int = Field(1, ge=1, description="Pictures per timed run")
    latency_timeout_s: Seconds = Field(
        120.0, description="Until the command of a target is given up, for one network"
    )
    latency_table: Path | None = Field(
        None,
        description="CSV or JSON of latencies measured elsewhere, by network or architecture; "
        "what it does not hold is measured on the --target, if one is given",
    )

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
        student = space.removesuffix(".py") if self.student is None else self._title
        student = student if self.site is None else f"{self.site}-{student}"
        name = f"{data.split('.')[0]}-{student}"
        return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:100] or "study"

    @property
    def is_federated(self) -> bool:
        """Whether the data are one site's share, which may lack classes that others know."""
        return self.site is not None

    @property
    def _title(self) -> str:
        """The one student and what was said of its training, so that another one is another."""
        told = {
            "loss": self.loss,
            "alpha": self.alpha,
            "temperature": self.temperature,
            "lr": self.learning_rate,
            "epochs": self.epochs,
            "precision": self.precision,
        }
        words = [
            f"{name}-{value:g}" if isinstance(value, float) else f"{name}-{value}"
            for name, value in told.items()
            if value is not None
        ]
        return "-".join([str(self.student).split("/")[-1].replace(".py", ""), *words])

    @property
    def recipe_fields(self) -> dict[str, Scalar]:
        """The fields of the recipe that options pin, whatever its file says."""
        fields = self.loss_fields
        if self.alpha is not None:
            fields |= {"alpha": self.alpha, "alpha_end": self.alpha, "alpha_schedule": "constant"}
        if self.temperature is not None:
            fields |= {"temperature": self.temperature}
            if "temperature_schedule" not in self.fix:
                fields |= {"temperature_schedule": "constant"}
        if self.learning_rate is not None:
            fields |= {"learning_rate": self.learning_rate}
        return fields

    @property
    def loss_fields(self) -> dict[str, Scalar]:
        """The fields of the recipe that `--loss` pins; what it does not name is off."""
        if self.loss is None:
            return {}
        words = self.loss.split("+")
        return {
            "loss": next(word for word in words if word in LOGIT_LOSSES),
            "is_standardised": "standardised" in words,
            "is_adaptive": "adaptive" in words,
            "feature_loss": next((word for word in words if word in FEATURE_LOSSES), "none"),
        }

    @property
    def study_dir(self) -> Path:
        """The folder of the study's own files."""
        return self.runs_dir / "studies" / self.study_name
