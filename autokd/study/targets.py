"""What latencies of a study are measured on."""

from autokd.config import Config
from autokd.latency import CachedTarget, OnnxRuntimeTarget
from autokd.study.ray_cluster import RayCluster, RayTarget
from autokd.study.stillness import still

__all__ = ["build_target"]


def build_target(config: Config, *, seconds: float, cluster: RayCluster | None) -> CachedTarget:
    """What latencies are measured on, while nobody trains there.

    Args:
        config: Threads, batch and the folder of what was measured before.
        seconds: That one network is timed.
        cluster: Whose nodes of the resource `latency_device` measure, if it has any.

    Returns:
        The target, with what it has measured before.
    """
    target: OnnxRuntimeTarget | RayTarget = OnnxRuntimeTarget(
        threads=config.latency_threads, batch=config.latency_batch, seconds=seconds, quiet=still
    )
    if cluster is not None and cluster.latency_device:
        target = RayTarget(cluster=cluster, target=target)
    return CachedTarget(target, folder=config.runs_dir / "latency")
