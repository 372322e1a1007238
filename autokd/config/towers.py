"""Every option of `autokd distill-clip`, with its rule and what `--help` says of it."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from autokd.config.values import TOWER_LOSSES, Seconds, check_tower_loss

__all__ = ["TowerConfig"]

_MOST_KEPT = 0.8  # of the pictures, for choosing and reporting


class TowerConfig(BaseModel):
    """Everything that a light dual tower under CLIP needs; each field is an option.

    The descriptions are what `autokd distill-clip --help` shows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    pairs: Path | None = Field(
        None,
        description="CSV, TSV or JSONL with the columns image (a path, relative to the file) and "
        "caption; a picture may have several lines",
    )
    teacher: str = Field(
        "clip:ViT-B-32",
        min_length=1,
        description="clip:NAME of open_clip (also clip:local-dir:DIR, clip:hf-hub:NAME) | "
        "python:module:function that returns a model and its tokenizer",
    )
    teacher_weights: Path | None = Field(None, description="Checkpoint of a clip:NAME")
    teacher_pretrained: str | None = Field(
        None, min_length=1, description="Tag of the weights that open_clip fetches for clip:NAME"
    )

    image_tower: str = Field(
        "mobile",
        min_length=1,
        description="SPACE:key=value,... | timm:NAME | python:FILE.py:FUNCTION, as --student of "
        "`autokd distill`; its outputs are the embedding",
    )
    image_size: int | None = Field(
        None,
        ge=8,
        le=1024,
        description="Side of the student's pictures, in pixels [default: the teacher's]",
    )
    text_layers: int = Field(4, ge=1, le=48, description="Of the text tower, a transformer")
    text_width: int = Field(256, ge=8, le=4096, description="Of its layers; a multiple of heads")
    text_heads: int = Field(4, ge=1, le=64, description="Of its attention")
    context: int | None = Field(
        None,
        ge=3,
        le=1024,
        description="Tokens of a text; longer ones are cut [default: of the longest caption or "
        "name of --zero-shot, at most the teacher's]",
    )

    loss: Annotated[str, AfterValidator(check_tower_loss)] = Field(
        "+".join(TOWER_LOSSES),
        description="What is learnt: contrastive (from the pairs alone) and, of the teacher, "
        "+feature (its embeddings), +interactive (its other tower), +relational (its similarities)",
    )
    augmentation: Literal["none", "crop", "flip_crop", "randaugment"] = Field(
        "crop", description="Of pictures; flips make left of right, which captions may tell apart"
    )
    views: int = Field(
        4, ge=1, le=10_000, description="Augmented views of each picture; the teacher's are kept"
    )
    epochs: int = Field(10, ge=1, description="Passes over the pictures")
    batch_size: int = Field(128, ge=2, description="Pairs of a step, which are told apart")
    learning_rate: float = Field(
        0.001, gt=0, le=100, description="Peak of a warm-up and cosine schedule"
    )
    weight_decay: float = Field(0.1, ge=0, le=10, description="Of AdamW; not of biases and norms")
    train_limit: int | None = Field(
        None, ge=10, description="Use at most this many pictures, drawn at random"
    )
    val_ratio: float = Field(
        0.1, gt=0, lt=0.5, description="Share of the pictures that is kept for choosing"
    )
    test_ratio: float = Field(
        0.1, gt=0, lt=0.5, description="Share of the pictures that is kept for reporting"
    )
    zero_shot: Path | None = Field(
        None,
        description="Folder of pictures, one sub-folder a class: how well the towers tell the "
        "classes by their names, never trained on",
    )
    template: str = Field(
        "a photo of a {}.", description="What a class is called in --zero-shot, with {} for it"
    )
    seed: int = Field(0, ge=0, lt=2**31, description="Of splits, weights and trainings")
    seeds: int = Field(3, ge=1, le=100, description="Trainings, each with a seed of its own")
    baseline: bool = Field(
        True,
        description="Train the twin with --loss contrastive beside the student, with each seed",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where students train")

    target: str = Field("onnxruntime", description="What both towers are timed on, as for search")
    latency_threads: int = Field(1, ge=1, description="Threads of the runtime that is timed")
    latency_timeout_s: Seconds = Field(
        120.0, description="Until the command of a target is given up, for one network"
    )

    study: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$",
        description="Name of the study; the same name goes on where it stopped "
        "[default: PAIRS-IMAGE TOWER]",
    )
    runs_dir: Path = Field(Path("mlruns"), description="Where studies, runs and artefacts lie")
    tracking_uri: str | None = Field(
        None,
        description="MLflow server [default: "
        "MLFLOW_TRACKING_URI, or a database in the runs folder]",
    )

    @model_validator(mode="after")
    def _check(self) -> "TowerConfig":
        """What two options must be together.

        Returns:
            Itself.

        Raises:
            ValueError: They are not.
        """
        if self.text_width % self.text_heads:
            raise ValueError(
                f"`--text-width` must be a multiple of --text-heads ({self.text_heads}), "
                f"got {self.text_width}"
            )
        if self.val_ratio + self.test_ratio > _MOST_KEPT:
            raise ValueError(
                f"`--val-ratio` and `--test-ratio` must sum up to {_MOST_KEPT} at the most, got "
                f"{self.val_ratio + self.test_ratio:g}"
            )
        if "{}" not in self.template:
            raise ValueError(f"`--template` must hold {{}}, got {self.template!r}")
        if self.teacher_weights is not None and self.teacher_pretrained is not None:
            raise ValueError(
                f"`--teacher-pretrained` must be left out beside --teacher-weights, "
                f"got {self.teacher_pretrained}"
            )
        return self

    @property
    def losses(self) -> tuple[str, ...]:
        """The parts of `--loss`."""
        return tuple(self.loss.split("+"))

    @property
    def study_name(self) -> str:
        """The name of the study, made from pairs and image tower where the user gave none."""
        if self.study is not None:
            return self.study
        pairs = "pairs" if self.pairs is None else self.pairs.stem
        tower = self.image_tower.split("/")[-1].replace(".py", "")
        name = f"{pairs}-{tower}-text-{self.text_layers}x{self.text_width}"
        return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:100] or "towers"

    @property
    def study_dir(self) -> Path:
        """The folder of the study's own files."""
        return self.runs_dir / "studies" / self.study_name

    def settings(self) -> dict[str, Any]:
        """What makes the numbers of a study what they are, as JSON has it."""
        return self.model_dump(mode="json", exclude=set(_FREE))


_FREE = ("study", "runs_dir", "tracking_uri", "device", "latency_timeout_s", "seeds", "baseline")
"""Settings that may differ when a study goes on."""
