"""What the latencies of a study come from, session after session."""

import json
import logging
from pathlib import Path

from autokd.config import Config
from autokd.errors import StudyError
from autokd.latency import describe_device, runtime_version
from autokd.study.ray_cluster import RayCluster
from autokd.types import is_same_device

__all__ = ["hold_to_runtimes", "name_runtimes"]

_logger = logging.getLogger(__name__)

_DEFAULT = "onnxruntime"


def name_runtimes(config: Config, *, cluster: RayCluster | None) -> dict[str, tuple[str, str]]:
    """What times networks that no table tells of.

    Args:
        config: Targets, and a table if any.
        cluster: Whose nodes of the resource `latency_device` measure, if it has any.

    Returns:
        Version and device by the name of the runtime; without commands, whose device only a
        latency tells.
    """
    names = config.target or (() if config.latency_table is not None else (_DEFAULT,))
    node = None if cluster is None else cluster.node
    return {
        name: (runtime_version(name), describe_device(name)) if node is None else node.find(name)
        for name in names
        if not name.startswith("command:")
    }


def hold_to_runtimes(home: Path, config: Config, *, cluster: RayCluster | None) -> None:
    """Holds a study to the devices of its runtimes; warns of another version of one.

    The latencies of the front are measured again when the trials are over, by one version; those
    that its sampler has learnt from, and those of further targets, stay of the former.

    Args:
        home: Folder of the study.
        config: As for `name_runtimes`.
        cluster: As for `name_runtimes`.

    Raises:
        StudyError: Earlier sessions measured on another device.
    """
    path = home / "runtimes.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    now = name_runtimes(config, cluster=cluster)
    for name, (version, device) in now.items():
        before, place = known.setdefault(name, [version, device])
        if not is_same_device(place, device):
            raise StudyError(
                f"study `{home.name}` must go on with latencies of {place}, got {device}; measure "
                f"there, or pass another --study and --learn-from {home.name}"
            )
        if before != version:
            _logger.warning(
                "latencies of earlier sessions are of %s %s, those measured now of %s, and may not "
                "compare; install the former again, or pass another --study",
                name,
                before,
                version,
            )
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(known, indent=1), encoding="utf-8")
    temporary.replace(path)
