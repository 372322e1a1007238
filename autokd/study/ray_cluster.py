"""A Ray cluster: how one is joined, what a trial needs of it, and latencies of its devices."""

import dataclasses
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from autokd.config import Config
from autokd.errors import ConfigError, MeasureError, TargetError
from autokd.exporters import safe_weight_bits
from autokd.latency import (
    StopwatchTarget,
    describe_device,
    device_fingerprint,
    find_missing,
    read_references,
    runtime_version,
    write_references,
)
from autokd.study.stillness import still
from autokd.types import Latency

__all__ = ["LATENCY_DEVICE", "LatencyNode", "RayCluster", "RayTarget", "join_cluster"]

LATENCY_DEVICE = "latency_device"
"""The resource of nodes that students are deployed to: `ray start --resources`."""

_EXTRA = "install autokd[ray]"
_PATIENCE_S = 600.0  # for a node to measure on
_TURN_S = 60.0  # that a network may take in each process that times it
_LAST_PORT = 65535
_ANSWER_S = 10.0  # for a connection; Ray itself would try for minutes


@dataclasses.dataclass
class _Own:
    """Whether this process has joined a cluster by itself, or was joined by its user."""

    has_joined: bool = False


_OWN = _Own()  # Ray's connection is one of the process


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class LatencyNode:
    """What nodes of the resource `latency_device` have in common.

    Attributes:
        device: Fingerprint of the processor.
        runtimes: Name, version and device of what times networks there.
        weight_bits: How many bits of a weight onnxruntime computes with exactly there.
    """

    device: str
    runtimes: tuple[tuple[str, str, str], ...]
    weight_bits: int

    def __str__(self) -> str:
        """For people."""
        versions = ", ".join(f"{name} {version or 'absent'}" for name, version, _ in self.runtimes)
        return f"{self.device} with {versions}, {self.weight_bits} bits"

    def find(self, runtime: str) -> tuple[str, str]:
        """Version and device of a runtime, which is one of them; no version where it is absent."""
        return next((version, device) for name, version, device in self.runtimes if name == runtime)


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class RayCluster:
    """A cluster that this process has joined.

    Attributes:
        ray: The module.
        trial: What a trial needs: `num_cpus` and `num_gpus`.
        node: Those that latencies are measured on; they are measured here if there is none.
    """

    ray: Any
    trial: dict[str, float]
    node: LatencyNode | None = None

    @property
    def n_slots(self) -> int:
        """Trials that fit into the cluster at once."""
        total = self.ray.cluster_resources()
        needs = {"CPU": self.trial["num_cpus"], "GPU": self.trial["num_gpus"]}
        shares = [total.get(kind, 0.0) / n for kind, n in needs.items() if n > 0]
        return int(min(shares) + 1e-9)  # 1 / 0.2 is 5, 1 // 0.2 is 4

    def on_node(self, node: str) -> Any:  # noqa: ANN401 - Ray's
        """The strategy that holds something to a node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node_id=node, soft=False)

    @property
    def own_node(self) -> str:
        """Where this process is."""
        return self.ray.get_runtime_context().get_node_id()

    def leave(self) -> None:
        """Ends what `join_cluster` has begun; may be called again."""
        if _OWN.has_joined:
            _OWN.has_joined = False
            self.ray.shutdown()


def join_cluster(config: Config) -> RayCluster:
    """Joins the cluster of `--ray`.

    Args:
        config: Address and what a trial needs.

    Returns:
        The cluster.

    Raises:
        ConfigError: Ray is not installed, `--remote` is wanted too, or no node is large enough for
            a trial.
    """
    if config.remote:
        raise ConfigError(f"`--ray` must stand without --remote, got {config.ray} and --remote")
    try:
        import ray
    except ImportError as error:
        raise ConfigError(f"`--ray` must find the package ray; {_EXTRA}") from error
    _join(ray, str(config.ray))
    trial = {"num_cpus": config.cpus_per_trial, "num_gpus": config.gpus_per_trial}
    cluster = RayCluster(ray=ray, trial=trial)
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
    return dataclasses.replace(cluster, node=_find_kind(cluster, devices, config))


def _join(ray: Any, address: str) -> None:  # noqa: ANN401 - the module
    """Joins a cluster, in place of one that an earlier search of this process has left joined.

    Args:
        ray: The module.
        address: Of `--ray`.

    Raises:
        ConfigError: Nothing answers at the address, or the user has joined another cluster.
    """
    if ray.is_initialized() and _OWN.has_joined:
        _OWN.has_joined = False
        ray.shutdown()
    if ray.is_initialized():
        joined = ray.get_runtime_context().gcs_address
        if address not in ("auto", joined):
            raise ConfigError(
                f"`--ray` must be the cluster that this process has joined, {joined}, got "
                f"{address}; pass auto, or call ray.shutdown() before"
            )
        return
    try:
        _knock(address)
        ray.init(address=address, namespace="autokd", log_to_driver=False, configure_logging=False)
    except (OSError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"`--ray` must be the address of a running cluster, got {address}: {reason}; "
            "start one with `ray start --head`"
        ) from error
    _OWN.has_joined = True


def _knock(address: str) -> None:
    """Connects once, so that a wrong address costs seconds and one line.

    Args:
        address: HOST:PORT, also of Ray's client; others, as `auto`, are Ray's to find.

    Raises:
        ValueError: There is no such port.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    if int(port) > _LAST_PORT:  # of which resolvers take the lower half
        raise ValueError(f"a port is at most {_LAST_PORT}")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()


def _find_kind(cluster: RayCluster, devices: Sequence[str], config: Config) -> LatencyNode | None:
    """What the nodes that measure have in common; none where there are no such nodes.

    Args:
        cluster: Whose.
        devices: Names of those nodes.
        config: Names the runtimes.

    Returns:
        What they are.

    Raises:
        ConfigError: They are not alike.
    """
    if not devices:
        return None
    runtimes = {"onnxruntime", *(one for one in config.target if not one.startswith("command:"))}
    look = cluster.ray.remote(num_cpus=0)(_describe_node)
    found: list[LatencyNode] = cluster.ray.get(
        [
            look.options(scheduling_strategy=cluster.on_node(node)).remote(sorted(runtimes))
            for node in devices
        ]
    )
    if len(set(found)) > 1:
        shown = "; ".join(sorted(map(str, set(found))))
        raise ConfigError(
            f"nodes with the resource {LATENCY_DEVICE} must be alike, got {shown}; give it to "
            "nodes of one kind only"
        )
    return found[0]


@final
@dataclasses.dataclass(frozen=True, kw_only=True)
class RayTarget:
    """The nodes that carry the resource `latency_device`, with a runtime that they have.

    They are of one kind, and all scale by one quiet time of the reference, which travels with what
    is timed: whichever node measures, the latency is of the same scale.

    Attributes:
        cluster: That they are in.
        node: What they are.
        target: How it is timed there; its `home` is on this machine.
    """

    cluster: RayCluster
    node: LatencyNode
    target: StopwatchTarget

    @property
    def needs_program(self) -> bool:
        """Whether the runtime of the nodes does."""
        return self.target.needs_program

    def __str__(self) -> str:
        """What makes two measurements comparable."""
        version, device = self.node.find(self.target.runtime)
        return self.target.describe(version, device=device)

    def measure(self, model: Path) -> Latency:
        """Time the exported file; as `StopwatchTarget.measure`."""
        return self.measure_together([model])[0]

    def measure_together(self, models: Sequence[Path]) -> list[Latency]:
        """Time several files by turns; as `StopwatchTarget.measure_together`.

        Args:
            models: ONNX files of this machine.

        Returns:
            Estimate and spread of each. What the target raises on its node is raised here.

        Raises:
            MeasureError: It is another device.
            TargetError: No such node is there any more, or it died while it measured.
        """
        ray = self.cluster.ray
        task = ray.remote(num_cpus=0, resources={LATENCY_DEVICE: 1}, max_retries=3)(_measure)
        files = [_read_files(model, has_program=self.needs_program) for model in models]
        names = ", ".join(model.name for model in models)
        home = self.target.home
        bare = dataclasses.replace(self.target, quiet=still, home=None)
        known = {} if home is None else read_references(home)
        limit_s = _PATIENCE_S + _TURN_S * len(models) * self.target.form.n_processes
        latencies: list[Latency]
        sent = task.remote(bare, files, known)
        try:
            latencies, references = ray.get(sent, timeout=limit_s)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.GetTimeoutError as error:
            ray.cancel(sent)  # or a node that comes later would time what nobody asks for
            raise TargetError(
                f"{names} must be timed on a node with the resource {LATENCY_DEVICE}, got none in "
                f"{limit_s:.0f} s; start one, the same command goes on"
            ) from error
        except ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:200]
            raise TargetError(
                f"{names} must be timed on a node with the resource {LATENCY_DEVICE}, got {reason}"
            ) from error
        device = self.node.find(self.target.runtime)[1]
        if any(one.device != device for one in latencies):
            raise MeasureError(f"{names} must be timed on {device}, got {latencies[0].device}")
        if home is not None:
            write_references(home, references)
        return latencies


def _describe_node(runtimes: Sequence[str]) -> LatencyNode:
    """What a node is, and what it times networks with."""
    return LatencyNode(
        device=device_fingerprint(),
        runtimes=tuple(
            (one, "" if find_missing(one) else runtime_version(one), describe_device(one))
            for one in runtimes
        ),
        weight_bits=safe_weight_bits(),
    )


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
