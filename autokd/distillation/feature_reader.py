"""Features of a network, read while it runs."""

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from autokd.distillation.taps import Tap, first_tensor
from autokd.errors import BuildError

__all__ = ["FeatureReader", "fold_map", "unfold_map"]


@final
class FeatureReader:
    """Holds what a network gave at its taps in its last forward pass.

    Hooks stay on the network until `close()` or the end of the `with` block. A copy of the
    network made meanwhile is not read.
    """

    def __init__(
        self, network: nn.Module, taps: Sequence[Tap], *, is_detached: bool = False
    ) -> None:
        """Puts hooks on a network.

        Args:
            network: The one in which the taps were found.
            taps: What is read.
            is_detached: Whether gradients end here, as they must for a teacher.
        """
        self._is_detached = is_detached
        self._n_taps = len(taps)
        self._held: dict[int, Tensor] = {}
        self._hooks: list[RemovableHandle] = [
            network.register_forward_pre_hook(self._build_clearing(network))
        ]
        for place, tap in enumerate(taps):
            module = network.get_submodule(tap.path)
            hook = self._build_reading(module, tap=tap, place=place)
            self._hooks.append(module.register_forward_hook(hook))

    def __enter__(self) -> "FeatureReader":
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Takes the hooks off; an error goes on."""
        self.close()

    @property
    def features(self) -> tuple[Tensor, ...]:
        """What the last forward pass gave, a feature for each tap and in their order.

        Returns:
            Maps [batch channels height width] and embeddings [batch width], in the precision in
            which the network ran.

        Raises:
            RuntimeError: No forward pass has reached all taps.
        """
        if len(self._held) < self._n_taps:
            raise RuntimeError(
                f"a forward pass must reach all {self._n_taps} taps before features are read, "
                f"got {len(self._held)}"
            )
        return tuple(self._held[place] for place in range(self._n_taps))

    def close(self) -> None:
        """Takes the hooks off and lets go of the features; a second time does nothing."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        self._held.clear()

    def _build_clearing(
        self, network: nn.Module
    ) -> Callable[[nn.Module, tuple[object, ...]], None]:
        """A hook that forgets the pass before, so that a failed one leaves nothing stale."""

        def clear(module: nn.Module, arguments: tuple[object, ...]) -> None:  # noqa: ARG001 - torch's
            if module is network:
                self._held.clear()

        return clear

    def _build_reading(
        self, target: nn.Module, *, tap: Tap, place: int
    ) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        """A hook that keeps a feature; a function, for a deep copy of it is itself."""

        def read(module: nn.Module, arguments: tuple[object, ...], output: object) -> None:
            value = first_tensor(arguments if tap.layout == "embedding" else output)
            if module is not target or value is None:
                return
            value = value.detach() if self._is_detached else value
            is_embedding = tap.layout == "embedding"
            self._held[place] = _flatten(value) if is_embedding else fold_map(value, tap)

        return read


def fold_map(value: Tensor, tap: Tap) -> Float[Tensor, "batch channels height width"]:
    """What a tapped module gave as a map, channels first; a view.

    Args:
        value: In the layout of the tap.
        tap: A map, no embedding.

    Returns:
        The map.

    Raises:
        BuildError: There are more or fewer tokens than the tap was found with.
    """
    if tap.layout == "nhwc":
        return value.permute(0, 3, 1, 2)
    if tap.layout == "tokens":
        places = value[:, tap.n_prefix :].transpose(1, 2)
        if places.shape[2] != tap.height * tap.width:
            raise BuildError(
                f"tokens of {tap.path} must fold to {tap.height}x{tap.width}, got "
                f"{places.shape[2]} of them; pass --fix resizing=none"
            )
        return places.unflatten(2, tap.size)
    return value


def unfold_map(
    folded: Float[Tensor, "batch channels height width"], value: Tensor, tap: Tap
) -> Tensor:
    """A map in the layout of its tap again.

    Args:
        folded: As `fold_map` gave it, or as many other numbers.
        value: What it was folded from; leading tokens are taken from it.
        tap: The same.

    Returns:
        A tensor like `value`.
    """
    if tap.layout == "nhwc":
        return folded.permute(0, 2, 3, 1)
    if tap.layout == "tokens":
        return torch.cat([value[:, : tap.n_prefix], folded.flatten(2).transpose(1, 2)], dim=1)
    return folded


def _flatten(value: Tensor) -> Float[Tensor, "batch width"]:
    """One vector a picture: the mean over places, where there are any."""
    return value if value.ndim == 2 else value.flatten(2).mean(2)
