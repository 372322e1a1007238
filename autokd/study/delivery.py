"""From the front to a folder that can be deployed, and to MLflow's registry."""

import dataclasses
from pathlib import Path

from autokd.candidate import load_student, score_file
from autokd.config import Config
from autokd.data import TestData, load_data, load_test
from autokd.errors import TrackingError
from autokd.exporters import Bundle, OnnxNetwork, QuantizedFile, export_bundle
from autokd.latency import OnnxRuntimeTarget, device_fingerprint, library_versions
from autokd.spaces import build_space
from autokd.study.folder import find_study
from autokd.study.front import pick_student
from autokd.study.progress import SearchProgress
from autokd.study.refits import find_int8, find_weights, load_accuracy
from autokd.trackers import register_model
from autokd.types import DataCard, FrontStudent

__all__ = ["export"]

_TIMES = ("latency_ms", "fp32_latency_ms")  # of the card are those of the files, measured now


def export(
    study: str | None = None,
    *,
    out: Path = Path("student"),
    pick: str | None = None,
    max_latency_ms: float | None = None,
    runs_dir: Path = Path("mlruns"),
    is_registered: bool = True,
    progress: SearchProgress | None = None,
) -> Bundle:
    """Writes one student of the front to a folder, checked against what was trained.

    Args:
        study: Its name; the last one worked on if none.
        out: The folder to write.
        pick: `knee`, `fastest`, `most-accurate` or the number of a trial on the front; if none,
            the knee, or the most accurate one under `max_latency_ms`.
        max_latency_ms: Only students under it.
        runs_dir: Where studies lie.
        is_registered: Whether it is logged to MLflow and registered under the study's name.
        progress: Where to tell what is done.

    Returns:
        Files and figures.
    """
    progress = progress or SearchProgress(is_silent=True)
    pick = pick or ("knee" if max_latency_ms is None else "most-accurate")
    folder = find_study(study, runs_dir=runs_dir)
    config, front = folder.load_config(), folder.load_front()
    student = pick_student(front.students, pick=pick, max_latency_ms=max_latency_ms)
    progress.say(f"exporting trial {student.trial} of {front.study}")
    data = load_data(config)
    space = build_space(
        config.space,
        recipe=config.recipe,
        input_shape=data.card.shape,
        n_classes=data.card.n_classes,
        overrides=config.loss_fields,
        has_assistant=bool(config.assistant),
        precision=config.precision,
    )
    weights = find_weights(folder, trial=student.trial, is_twin=student.is_twin)
    network = load_student(space, student.architecture, data=data.card, weights=weights)
    card = {
        "study": front.study,
        **{key: value for key, value in dataclasses.asdict(student).items() if key not in _TIMES},
        "mean_test_accuracy": student.test_accuracy,
        "searched_latency_ms": student.latency_ms,
        "teacher": dataclasses.asdict(front.teacher),
        "data": _describe_data(data.card),
        "made_with": {**library_versions(), "device": device_fingerprint(), "seed": config.seed},
    }
    target = OnnxRuntimeTarget(
        threads=config.latency_threads, batch=config.latency_batch, seconds=1.0
    )
    test = load_test(config)
    bundle = export_bundle(
        network,
        out,
        data=data.card,
        test=test,
        target=target,
        card=card,
        int8=_find_quantized(student, weights, test=test),
    )
    if is_registered:
        _register(config, bundle, alias=_alias(student, pick=pick), test=test, progress=progress)
    return bundle


def _find_quantized(
    student: FrontStudent, weights: Path, *, test: TestData
) -> QuantizedFile | None:
    """The INT8 file of a student and the accuracy that it had; none of one in FP32."""
    if student.recipe.precision == "fp32":
        return None
    path, accuracy = find_int8(weights), load_accuracy(weights)
    if accuracy is None:
        accuracy = student.test_accuracy
    if accuracy is None:  # a study that was interrupted before its finals has no table
        accuracy = score_file(path, test.images, test.labels)
    return QuantizedFile(path=path, test_accuracy=accuracy)


def _describe_data(card: DataCard) -> dict[str, object]:
    """Which pictures it was taught on."""
    bare = {"n_unlabelled": card.n_unlabelled, "unlabelled_digest": card.unlabelled_digest}
    return {
        "name": card.name,
        "digest": card.digest,
        "n_train": card.n_train,
        **(bare if card.n_unlabelled else {}),
    }


def _register(
    config: Config,
    bundle: Bundle,
    *,
    alias: str,
    test: TestData,
    progress: SearchProgress,
) -> None:
    """Logs the student to MLflow; a server that is away costs the registration, not the files."""
    deployed = "model.onnx" if bundle.int8_test_accuracy is None else "model.int8.onnx"
    model = next(path for path in bundle.files if path.name == deployed)
    pictures = test.images[:4]
    inputs = (pictures.float() / 255).numpy()
    outputs = OnnxNetwork(model).predict(pictures).numpy()
    try:
        uri = register_model(
            config,
            onnx_file=model,
            files=[path for path in bundle.files if path != model],
            alias=alias,
            card=bundle.card,
            example=(inputs, outputs),
        )
    except TrackingError as error:
        progress.say(f"not registered in MLflow: {error}")
    else:
        progress.say(f"registered as {uri}")


def _alias(student: FrontStudent, *, pick: str) -> str:
    """What the registered version is called."""
    return f"trial-{student.trial}" if pick.isdigit() else pick
