"""A place in a network as a layer of its own, for whoever asks how the logits depend on it."""

from types import TracebackType
from typing import Any, cast, final

from torch import Tensor, nn

from autokd.distillation.feature_reader import fold_map, unfold_map
from autokd.distillation.taps import Tap, first_tensor

__all__ = ["Lens"]


@final
class Lens:
    """Leads what a tapped module gives through a layer that sees a map.

    Whatever the layout of the network (channels last, tokens behind a class token), the input
    and the output of `layer` are maps [batch channels height width], and the network goes on
    with that output in its own layout. Its logits do not change. Gradients end at the map: what
    comes before it is not differentiated, so that a frozen network can be looked into as well.

    The lens stays on the network until the end of the `with` block.

    Attributes:
        layer: Gives what it takes; hooks on it see the map.
    """

    def __init__(self, network: nn.Module, tap: Tap) -> None:
        """Puts the lens before a map.

        Args:
            network: The one in which the tap was found.
            tap: A map, no embedding.

        Raises:
            ValueError: The tap is an embedding, which has no places.
        """
        if tap.layout == "embedding":
            raise ValueError(f"`tap` must be a map, got the embedding before {tap.path}")
        self.layer = nn.Identity()
        self._tap = tap
        self._hook = network.get_submodule(tap.path).register_forward_hook(self._pass)

    def __enter__(self) -> "Lens":
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Takes the lens off; an error goes on."""
        self._hook.remove()

    def _pass(self, module: nn.Module, arguments: tuple[object, ...], output: object) -> object:  # noqa: ARG002 - torch's
        value = first_tensor(output)
        if value is None:
            return output
        folded = fold_map(value, self._tap).detach().requires_grad_()
        return _put_first(output, unfold_map(self.layer(folded), value, self._tap))


def _put_first(output: object, value: Tensor) -> object:
    """The output with another tensor where `first_tensor` finds one."""
    if isinstance(output, dict):
        values = cast("dict[object, Any]", output)
        return {**values, next(iter(values)): value}
    if isinstance(output, tuple | list):
        rest = list(cast("tuple[Any, ...]", output))[1:]
        return [value, *rest] if isinstance(output, list) else (value, *rest)
    return value
