"""A Ray cluster: how one is joined, what a trial needs of it, and latencies of its devices."""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from autokd.config import Config
from autokd.errors import ConfigError, MeasureError
from autokd.latency import (
    StopwatchTarget,
    device_fingerprint,
    read_references,
    runtime_version,
    write_references,
)
from autokd.study.stillness import still
from autokd.types import Latency

__all__ = ["LATENCY_DEVICE", "RayCluster", "RayTarget", "join_cluster"]

LATENCY_DEVICE = "latency_device"
"""The resource of nodes that students are deployed to: `ray start --resources`."""

_EXTRA = "install autokd[ray]"
_PATIENCE_S = 600.0  # for a node to measure on


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class RayCluster:
    """A cluster that this process has joined.

    Attributes:
        ray: The module.
        trial: What a trial needs: `num_cpus` and `num_gpus`.
        latency_device: The fingerprint of the nodes that latencies are measured on; they are
            measured here if it is empty.
    """

    ray: Any
    trial: dict[str, float]
    latency_device: str

    @property
    def n_slots(self) -> int:
        """Trials that fit into the cluster at once."""
        total = self.ray.cluster_resources()
        needs = {"CPU": self.trial["num_cpus"], "GPU": self.trial["num_gpus"]}
        return min(int(total.get(kind, 0.0) // n) for kind, n in needs.items() if n > 0)

    def on_node(self, node: str) -> Any:  # noqa: ANN401 - Ray's
        """The strategy that holds something to a node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node_id=node, soft=False)

    @property
    def own_node(self) -> str:
        """Where this process is."""
        return self.ray.get_runtime_context().get_node_id()


def join_cluster(config: Config) -> RayCluster:
    """Joins the cluster of `--ray`.

    Args:
        config: Address and what a trial needs.

    Returns:
        The cluster.

    Raises:
        ConfigError: Ray is not installed, `--remote` is wanted too, nothing answers at the
            address, no node is large enough for a trial, or the nodes that latencies are to be
            measured on are not alike.
    """
    if config.remote:
        raise ConfigError(f"`--ray` must stand without --remote, got {config.ray} and --remote")
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"`--ray` must find the package ray; {_EXTRA}") from error
    if not ray.is_initialized():
        try:
            ray.init(
                address=config.ray, namespace="autokd", log_to_driver=False, configure_logging=False
            )
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(
                f"`--ray` must be the address of a running cluster, got {config.ray}: {reason}; "
                "start one with `ray start --head`"
            ) from error
    trial = {"num_cpus": config.cpus_per_trial, "num_gpus": config.gpus_per_trial}
    cluster = RayCluster(ray=ray, trial=trial, latency_device="")
    nodes = [node for node in ray.nodes() if node["Alive"]]
    needs = {"CPU": config.cpus_per_trial, "GPU": config.gpus_per_trial}
    if not any(
        all(node["Resources"].get(kind, 0.0) >= n for kind, n in needs.items()) for node in nodes
    ):
        raise ConfigError(
            "`--cpus-per-trial` and `--gpus-per-trial` must fit one node of the cluster, got "
            f"{config.cpus_per_trial:g} and {config.gpus_per_trial:g}; none of {len(nodes)} does"
        )
    devices = sorted(
        node["NodeID"] for node in nodes if node["Resources"].get(LATENCY_DEVICE, 0.0) > 0
    )
    if not devices:
        return cluster
    runtimes = {"onnxruntime", *(one for one in config.target if not one.startswith("command:"))}
    look = ray.remote(num_cpus=0)(_describe_node)
    found: list[tuple[str, str]] = ray.get(
        [
            look.options(scheduling_strategy=cluster.on_node(node)).remote(sorted(runtimes))
            for node in devices
        ]
    )
    if len(set(found)) > 1:
        shown = "; ".join(f"{device} with {versions}" for device, versions in sorted(set(found)))
        raise ConfigError(
            f"nodes with the resource {LATENCY_DEVICE} must be alike, got {shown}; give it to "
            "nodes of one kind only"
        )
    return dataclasses.replace(cluster, latency_device=found[0][0])


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class RayTarget:
    """The nodes that carry the resource `latency_device`, with a runtime that they have.

    They are of one kind, and all scale by one quiet time of the reference, which travels with what
    is timed: whichever node measures, the latency is of the same scale.

    Attributes:
        cluster: With a `latency_device`.
        target: How it is timed there; its `home` is on this machine.
    """

    cluster: RayCluster
    target: StopwatchTarget

    @property
    def needs_program(self) -> bool:
        """Whether the runtime of the nodes does."""
        return self.target.needs_program

    def __str__(self) -> str:
        """What makes two measurements comparable."""
        return str(self.target).replace(device_fingerprint(), self.cluster.latency_device)

    def measure(self, model: Path) -> Latency:
        """Time the exported file; as `StopwatchTarget.measure`."""
        return self.measure_together([model])[0]

    def measure_together(self, models: Sequence[Path]) -> list[Latency]:
        """Time several files by turns; as `StopwatchTarget.measure_together`.

        Args:
            models: ONNX files of this machine.

        Returns:
            Median and spread of each. What the target raises on its node is raised here.

        Raises:
            MeasureError: No such node is there any more, or it is another device.
        """
        ray = self.cluster.ray
        task = ray.remote(num_cpus=0, resources={LATENCY_DEVICE: 1}, max_retries=3)(_measure)
        files = [_read_files(model, has_program=self.needs_program) for model in models]
        names = ", ".join(model.name for model in models)
        home = self.target.home
        bare = dataclasses.replace(self.target, quiet=still, home=None)
        known = {} if home is None else read_references(home)
        latencies: list[Latency]
        try:
            latencies, references = ray.get(task.remote(bare, files, known), timeout=_PATIENCE_S)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.GetTimeoutError as error:
            raise MeasureError(
                f"{names} must be timed on a node with the resource {LATENCY_DEVICE}, got none in "
                f"{_PATIENCE_S:.0f} s"
            ) from error
        if any(one.device != self.cluster.latency_device for one in latencies):
            raise MeasureError(
                f"{names} must be timed on {self.cluster.latency_device}, got {latencies[0].device}"
            )
        if home is not None:
            write_references(home, references)
        return latencies


def _describe_node(runtimes: Sequence[str]) -> tuple[str, str]:
    """What a node is, and the versions of what it times networks with."""
    versions = [f"{runtime} {runtime_version(runtime) or 'absent'}" for runtime in runtimes]
    return device_fingerprint(), ", ".join(versions)


def _read_files(model: Path, *, has_program: bool) -> dict[str, bytes]:
    """The model, and what lies beside it for torch, by name; the model is the first."""
    files = [model, model.with_suffix(".pt2")] if has_program else [model]
    return {file.name: file.read_bytes() for file in files}


def _measure(
    target: StopwatchTarget,
    models: Sequence[Mapping[str, bytes]],
    references: Mapping[str, bytes],
) -> tuple[list[Latency], dict[str, bytes]]:
    """What the node does; gives the quiet times that it has scaled by, too."""
    with tempfile.TemporaryDirectory(prefix="autokd-") as folder:
        paths: list[Path] = []
        for number, files in enumerate(models):
            home = Path(folder) / str(number)
            home.mkdir()
            for name, content in files.items():
                (home / name).write_bytes(content)
            paths.append(home / next(iter(files)))
        known = Path(folder) / "references"
        write_references(known, references)
        latencies = dataclasses.replace(target, home=known).measure_together(paths)
        return latencies, read_references(known)
