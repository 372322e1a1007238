"""A registered student predicts what the exported one does."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path

import numpy as np
import pytest

from autokd.config import Config
from autokd.errors import ConfigError, TrackingError
from autokd.trackers import MlflowTracker, register_model
from tests.contracts.tracker_contract import copy_store, opened, study

# mlflow's own mappers, under a recent SQLAlchemy


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    copy_store(tmp_path)
    return Config(runs_dir=tmp_path, study="digits")


@pytest.fixture
def weight():
    return np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


@pytest.fixture
def onnx_file(tmp_path, weight):
    """A linear student of two by two pictures."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["input"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
        ],
        "student",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 1, 2, 2])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "student.onnx")
    return tmp_path / "student.onnx"


@pytest.fixture
def example(weight):
    inputs = np.random.default_rng(1).normal(size=(2, 1, 2, 2)).astype(np.float32)
    return inputs, inputs.reshape(2, 4) @ weight


def register(config, onnx_file, example, **options):
    values = {"files": [], "aliases": ["fastest"], "card": {"trial": 3, "test_accuracy": 0.9}}
    return register_model(config, onnx_file=onnx_file, example=example, **{**values, **options})


def test_the_registered_student_predicts_what_the_exported_one_does(
    config, onnx_file, example, monkeypatch
):
    import mlflow

    uri = register(config, onnx_file, example)
    assert uri == "models:/digits@fastest"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{config.runs_dir}/mlflow.db")
    inputs, outputs = example
    model = mlflow.pyfunc.load_model(uri)
    np.testing.assert_allclose(model.predict(inputs)["logits"], outputs, rtol=1e-5)
    more = np.repeat(inputs, 5, axis=0)
    assert model.predict(more)["logits"].shape == (10, 3)
    assert model.metadata.signature.inputs.inputs[0].shape == (-1, 1, 2, 2)
    np.testing.assert_array_equal(model.input_example, inputs)
    assert mlflow.onnx.load_model(uri).graph.output[0].name == "logits"


def test_a_study_that_was_logged_elsewhere_leaves_no_run_under_way(config, onnx_file, example):
    from mlflow import MlflowClient

    register(config, onnx_file, example, mark="ours")
    client = MlflowClient(f"sqlite:///{config.runs_dir}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("digits").experiment_id])
    assert [(run.info.run_name, run.info.status) for run in runs] == [
        ("export", "FINISHED"), ("search", "FINISHED"),
    ]  # fmt: skip


def test_it_is_registered_beside_the_run_of_before_there_were_marks(config, onnx_file, example):
    from mlflow import MlflowClient

    uri = f"sqlite:///{config.runs_dir}/mlflow.db"
    MlflowTracker(uri, artifacts=config.runs_dir, study="digits").log_all(study())
    teacher = {"val_accuracy": opened().teacher.val_accuracy}
    register(config, onnx_file, example, mark="ours", card={"trial": 3, "teacher": teacher})
    client = MlflowClient(uri)
    ids = [client.get_experiment_by_name("digits").experiment_id]
    (search,) = client.search_runs(ids, "tags.`autokd.kind` = 'search'")
    (run,) = client.search_runs(ids, "tags.`autokd.kind` = 'export'")
    assert run.data.tags["mlflow.parentRunId"] == search.info.run_id


def test_the_alias_moves_to_the_newest_version(config, onnx_file, example):
    from mlflow import MlflowClient

    for trial in (1, 2):
        register(config, onnx_file, example, card={"trial": trial})
    client = MlflowClient(f"sqlite:///{config.runs_dir}/mlflow.db")
    version = client.get_model_version_by_alias("digits", "fastest")
    assert (version.version, version.tags) == (2, {"trial": "2"})


def test_a_version_may_have_several_names_and_says_how_it_was_measured(config, onnx_file, example):
    from mlflow import MlflowClient

    card = {"latency_ms": 1.5, "test_accuracy": 0.9, "protocol": "median of 100 runs", "recipe": {}}
    uri = register(config, onnx_file, example, aliases=["fastest", "under-2ms"], card=card)
    assert uri == "models:/digits@fastest"
    client = MlflowClient(f"sqlite:///{config.runs_dir}/mlflow.db")
    for alias in ("fastest", "under-2ms"):
        version = client.get_model_version_by_alias("digits", alias)
        assert version.tags == {
            "latency_ms": "1.5", "test_accuracy": "0.9", "protocol": "median of 100 runs",
        }  # fmt: skip


def test_dots_of_a_study_are_underscores_of_its_model(config, onnx_file, example):
    dotted = config.model_copy(update={"study": "width-0.5"})
    assert register(dotted, onnx_file, example) == "models:/width-0_5@fastest"


def test_the_export_is_a_run_below_the_search_with_all_files(config, onnx_file, example, tmp_path):
    from mlflow import MlflowClient

    other = tmp_path / "labels.txt"
    other.write_text("zero one two")
    register(config, onnx_file, example, files=[other])
    client = MlflowClient(f"sqlite:///{config.runs_dir}/mlflow.db")
    experiment = client.get_experiment_by_name("digits")
    (run,) = client.search_runs([experiment.experiment_id], "tags.`autokd.kind` = 'export'")
    (search,) = client.search_runs([experiment.experiment_id], "tags.`autokd.kind` = 'search'")
    assert (run.info.run_name, run.info.status) == ("export", "FINISHED")
    assert run.data.tags["mlflow.parentRunId"] == search.info.run_id
    assert {f.path for f in client.list_artifacts(run.info.run_id)} == {"card.json", "labels.txt"}
    assert run.outputs.model_outputs


@pytest.mark.parametrize("alias", ["", "latest", "v12", "Fast", "a b", "a_b"])
def test_an_alias_that_mlflow_or_the_house_forbids_is_refused(config, onnx_file, example, alias):
    with pytest.raises(ConfigError, match="`alias` must be"):
        register(config, onnx_file, example, aliases=["knee", alias])


def test_a_missing_file_is_a_tracking_error_and_a_failed_run(config, tmp_path, example):
    from mlflow import MlflowClient

    with pytest.raises(TrackingError):
        register(config, tmp_path / "gone.onnx", example)
    client = MlflowClient(f"sqlite:///{config.runs_dir}/mlflow.db")
    experiment = client.get_experiment_by_name("digits")
    (run,) = client.search_runs([experiment.experiment_id], "tags.`autokd.kind` = 'export'")
    assert run.info.status == "FAILED"


def test_a_model_is_registered_where_onnxruntime_goes_by_another_name(
    config, onnx_file, example, monkeypatch
):
    import mlflow

    def find(name):
        if name == "onnxruntime":
            raise PackageNotFoundError(name)
        return "1.20.0"

    monkeypatch.setattr("autokd.types.packages.version", find)
    uri = register(config, onnx_file, example)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{config.runs_dir}/mlflow.db")
    needs = mlflow.pyfunc.get_model_dependencies(uri)
    assert "onnxruntime-gpu==1.20.0" in Path(needs).read_text().splitlines()
