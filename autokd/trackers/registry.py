"""The way of an exported student into MLflow's model registry."""

import json
import re
import tempfile
import warnings
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autokd.config import Config
from autokd.errors import ConfigError
from autokd.trackers.connection import build_client, translated_errors, uploading
from autokd.trackers.stores import find_runs, tracking_uri
from autokd.types import pin_packages

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["register_model"]

_REQUIREMENTS = ("mlflow", "onnx", "onnxruntime", "numpy")


def register_model(
    config: Config,
    *,
    onnx_file: Path,
    files: Sequence[Path],
    aliases: Sequence[str],
    card: Mapping[str, Any],
    example: tuple[NDArray[np.float32], NDArray[np.float32]],
    mark: str = "",
) -> str:
    """Log an exported student and register it under the study's name.

    The model lies in a run `export` below the study's search, with the other files beside it.
    A name in use gets a new version; aliases in use move to it.

    Args:
        config: Of the study.
        onnx_file: The student, its weights inside.
        files: What else was exported.
        aliases: What the version is called, at least one name: lower case letters, digits and
            hyphens.
        card: Facts of the student; plain numbers and texts become tags of the version.
        example: A batch of inputs and the outputs for it; the batch size is free.
        mark: Of the study's folder, where its run has one.

    Returns:
        The URI of the model, `models:/NAME@ALIAS`, by its first alias; dots of the study's name
        are underscores in it.
    """
    for alias in aliases:
        _require_alias(alias)
    uri, name = tracking_uri(config), config.study_name.replace(".", "_")  # MLflow allows no dot
    client = build_client(uri)
    with translated_errors(uri):
        runs = find_runs(config, client, mark=mark, proof=_find_proof(card))
        _ = runs.parent_id
        runs.end_made()  # a parent, where the study has been logged elsewhere
        tags = {"autokd.alias": ",".join(aliases)}
        run_id = runs.create("export", kind="export", **tags).info.run_id
        with _ended(client, run_id):
            with uploading(uri):
                for file in files:
                    client.log_artifact(run_id, str(file))
                client.log_dict(run_id, dict(card), "card.json")
            model = client.create_logged_model(
                runs.experiment_id, name=name, source_run_id=run_id, model_type="classifier"
            )
            with tempfile.TemporaryDirectory() as folder:
                local = Path(folder, "model")
                _save_model(local, onnx_file=onnx_file, card=card, example=example, model=model)
                with uploading(uri):
                    client.log_model_artifacts(model.model_id, str(local))
            client.finalize_logged_model(model.model_id, "READY")
            _link(client, run_id=run_id, model_id=model.model_id)
            _add_version(client, model=model, aliases=aliases, card=card)
    return f"models:/{name}@{aliases[0]}"


def _find_proof(card: Mapping[str, Any]) -> dict[str, float]:
    """What the study's run tells too, if it is that of the student."""
    teacher = card.get("teacher")
    found = teacher.get("val_accuracy") if isinstance(teacher, Mapping) else None
    return {} if found is None else {"teacher_val_accuracy": float(found)}


@contextmanager
def _ended(client: "MlflowClient", run_id: str) -> Generator[None]:
    """A run that is over afterwards, as a failed one if something is raised within."""
    status = "FAILED"
    try:
        yield
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status=status)


def _require_alias(alias: str) -> None:
    is_reserved = alias == "latest" or re.fullmatch(r"v\d+", alias) is not None
    if is_reserved or re.fullmatch(r"[a-z0-9-]{1,250}", alias) is None:
        raise ConfigError(
            "`alias` must be of lower case letters, digits and hyphens, and neither `latest` "
            f"nor a version such as v1, got {alias!r}"
        )


def _save_model(
    folder: Path,
    *,
    onnx_file: Path,
    card: Mapping[str, Any],
    example: tuple[NDArray[np.float32], NDArray[np.float32]],
    model: Any,  # noqa: ANN401 - mlflow's LoggedModel
) -> None:
    """Write an MLflow model; the requirements are told, so that nothing is run to infer them."""
    from mlflow import onnx as flavor
    from mlflow.models import Model, infer_signature

    inputs, outputs = example
    described = Model(
        artifact_path=model.artifact_location,
        run_id=model.source_run_id,
        model_id=model.model_id,
        model_uuid=model.model_id,
    )
    with warnings.catch_warnings():  # on its first use mlflow complains of its own type hints
        warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType")
        flavor.save_model(
            onnx_file.read_bytes(),
            str(folder),
            mlflow_model=described,
            signature=infer_signature(inputs, outputs),
            input_example=inputs,
            pip_requirements=pin_packages(_REQUIREMENTS),
            onnx_execution_providers=["CPUExecutionProvider"],
            metadata={"autokd": json.loads(json.dumps(card, default=str))},
            save_as_external_data=False,
        )


def _link(client: "MlflowClient", *, run_id: str, model_id: str) -> None:
    """Show the model on the page of its run."""
    from mlflow.entities import LoggedModelOutput

    client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])


def _add_version(
    client: "MlflowClient",
    *,
    model: Any,  # noqa: ANN401 - mlflow's LoggedModel
    aliases: Sequence[str],
    card: Mapping[str, Any],
) -> None:
    """A new version of the registered model, which the aliases name from now on."""
    if not client.search_registered_models(f"name = '{model.name}'"):
        client.create_registered_model(model.name, tags={"autokd.kind": "study"})
    facts = {key: str(value) for key, value in card.items() if isinstance(value, str | int | float)}
    made = client.create_model_version(
        model.name,
        source=model.artifact_location,
        run_id=model.source_run_id,
        tags={key: value[:5000] for key, value in facts.items()},
        model_id=model.model_id,
    )
    for alias in aliases:
        client.set_registered_model_alias(model.name, alias, made.version)
