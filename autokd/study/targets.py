"""What latencies of a study are measured on."""

import math
from collections.abc import Collection

from autokd.config import Config
from autokd.errors import ConfigError
from autokd.latency import (
    COMMAND,
    COMPARING,
    SCREENING,
    CachedTarget,
    Form,
    StopwatchTarget,
    StrictTarget,
    TableTarget,
    TargetOptions,
    load_table,
    open_target,
)
from autokd.study.ray_cluster import LATENCY_DEVICE, RayCluster, RayTarget
from autokd.study.stillness import still
from autokd.types import Scalar, Target

__all__ = ["build_others", "build_target", "check_precision"]

_DEFAULT = "onnxruntime"


def build_target(
    config: Config, *, form: Form, cluster: RayCluster | None, name: str = ""
) -> Target:
    """What the latencies that are searched for are measured on, while nobody trains there.

    Args:
        config: The first target, a table of what was measured elsewhere, threads, batch and the
            folder of what was measured before.
        form: How long and how surely one network is timed.
        cluster: Whose nodes of the resource `latency_device` measure, if it has any.
        name: A further target of the study in place of the first.

    Returns:
        The target, with what it has measured before.
    """
    if name in config.target[1:]:
        return _open(config, name=name, form=form, cluster=cluster)
    if config.latency_table is not None and not config.target:
        return load_table(config.latency_table)
    first = config.target[0] if config.target else _DEFAULT
    target: Target = _open(config, name=first, form=form, cluster=cluster)
    if config.latency_table is None:
        return target
    return load_table(config.latency_table, target=target)


def build_others(config: Config, *, cluster: RayCluster | None) -> dict[str, Target]:
    """The further targets of a study, by name.

    Args:
        config: As for `build_target`.
        cluster: As for `build_target`.

    Returns:
        None of them is searched for; each has its own front.
    """
    return {
        name: _open(config, name=name, form=SCREENING, cluster=cluster)
        for name in config.target[1:]
    }


def check_precision(config: Config, *, precisions: Collection[Scalar], target: Target) -> None:
    """Refuses INT8 on a target that would time something else.

    Args:
        config: What the user wants.
        precisions: That students may be deployed in.
        target: What is searched for.

    Raises:
        ConfigError: It runs no ONNX files, makes float files of them, or is a table without any.
    """
    if "int8" not in precisions:
        return
    if target.needs_program:
        what = "a target that torch runs"
    elif config.target[:1] == ("tflite",):
        what = "the target tflite, for which ONNX files become float ones"
    elif isinstance(target, TableTarget) and target.is_of_architectures:
        what = "a table of architectures, which tells nothing of INT8 files"
    else:
        return
    raise ConfigError(
        f"`--precision` must be fp32 on {what}, got {config.precision}; "
        "pass --target onnxruntime or --precision fp32"
    )


def _open(config: Config, *, name: str, form: Form, cluster: RayCluster | None) -> CachedTarget:
    """A target that measures, and remembers it.

    Args:
        config: As for `build_target`.
        name: Of a runtime or a command.
        form: As for `build_target`.
        cluster: As for `build_target`.

    Returns:
        The target.

    Raises:
        ConfigError: The nodes that measure lack the runtime; without such nodes, this machine does.
    """
    folder = config.runs_dir / "latency"
    node = None if cluster is None else cluster.node
    options = TargetOptions(
        threads=config.latency_threads,
        batch=config.latency_batch,
        form=form,
        timeout_s=config.latency_timeout_s,
        quiet=still,
        home=folder,
        is_elsewhere=node is not None,
    )
    target = open_target(name, options)
    if isinstance(target, StopwatchTarget):
        if cluster is not None and node is not None:
            if not node.find(name)[0]:
                raise ConfigError(
                    f"`--target` must be a runtime that the nodes with the resource "
                    f"{LATENCY_DEVICE} have, got {name}; install it there"
                )
            target = RayTarget(cluster=cluster, node=node, target=target)
        target = StrictTarget(target)
    is_command = name.startswith(COMMAND)
    # A command promises no precision; and the table of a finished study is to stay as it is.
    is_kept = is_command or form == COMPARING
    return CachedTarget(
        target,
        folder=folder,
        is_asked=is_command,
        beside=".tflite" if name == "tflite" else "",
        precision=math.inf if is_kept else form.precision,
    )
