"""Where features are read: taps, found by running a network once, and their pairs."""

import contextlib
import difflib
from collections import defaultdict
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Literal, cast, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from autokd.errors import ConfigError

__all__ = ["Tap", "find_embedding", "find_taps", "first_tensor", "match_taps", "named_taps"]

_N_DEPTHS = 3  # taps of a network that has one resolution
_PREFIXES = (0, 1, 2, 5)  # none; class; class and distillation; class and four registers
_UNCHANGED = (nn.Identity, nn.Dropout, nn.Softmax)  # give what they take, or attention


@final
@dataclass(frozen=True, kw_only=True)
class Tap:
    """A place in a network whose output, or input, is a feature of the picture.

    Attributes:
        path: Of the module, as `named_modules` has it.
        channels: Of the map, or the width of tokens and embeddings.
        height: Of the map; 1 for an embedding.
        width: Of the map; 1 for an embedding.
        layout: How the module gives the map; `embedding` is the *input* of the module.
        n_prefix: Leading tokens that are no part of the map, as a class token.
        depth: Share of the network's modules that have run by then, in [0, 1].
    """

    path: str
    channels: int
    height: int
    width: int
    layout: Literal["nchw", "nhwc", "tokens", "embedding"]
    n_prefix: int = 0
    depth: float

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        return self.height, self.width


@dataclass(frozen=True, kw_only=True)
class _Call:
    """The last call of a module: what went in and what came out, as shapes."""

    path: str
    module: nn.Module
    taken: tuple[int, ...]
    given: tuple[int, ...]


def find_taps(
    network: nn.Module, example: Float[Tensor, "batch channels height width"]
) -> tuple[Tap, ...]:
    """The last map of each resolution of a network, from the first layer to the last.

    The network is run once. Where several modules end with the same map (a stage, its last
    block, the block's activation), the outermost is taken; a stage comes before what the next
    one does ahead of its stride, as an inverted residual that widens first. A network with one
    resolution, as a vision transformer, is read at up to three evenly spaced blocks instead. A
    map of as many channels as rows is taken for channels first.

    Args:
        network: Takes pictures; its weights, modes and the random numbers stay as they are.
        example: Pictures as the network wants them, on its device.

    Returns:
        The taps in order of execution; none where the network shows no maps larger than 1x1:
        TorchScript, exported programs and ONNX do not run their modules one by one.
    """
    sizes: dict[tuple[int, int], list[tuple[_Call, Tap]]] = defaultdict(list)
    for call, tap in _maps_of(_trace(network, example), example):
        sizes[tap.size].append((call, tap))
    if len(sizes) == 1:
        return _blocks_of(*sizes.values())
    return tuple(sorted(map(_last_of, sizes.values()), key=lambda tap: tap.depth))


def find_embedding(
    network: nn.Module, example: Float[Tensor, "batch channels height width"]
) -> Tap | None:
    """What the layer of the logits is fed with: the picture as one vector.

    Args:
        network: A classifier; its weights, modes and the random numbers stay as they are.
        example: Pictures as the network wants them, on its device.

    Returns:
        The input of the last linear layer or 1x1 convolution that gives as many values as there
        are logits; none where no such layer is seen to run.
    """
    calls = _trace(network, example)
    n_logits = calls[-1].given[1] if calls and len(calls[-1].given) > 1 else 0
    for call in reversed(calls):
        module = call.module
        is_pointwise = isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
        if len(call.taken) < 2 or not (is_pointwise or isinstance(module, nn.Linear)):
            continue
        if call.given[1:2] == (n_logits,) and (is_pointwise or len(call.given) == 2):
            return Tap(
                path=call.path, channels=call.taken[1], height=1, width=1,
                layout="embedding", depth=1.0,
            )  # fmt: skip
    return None


def named_taps(
    network: nn.Module,
    example: Float[Tensor, "batch channels height width"],
    paths: Sequence[str],
    *,
    option: Literal["--student-tap", "--teacher-tap"],
) -> tuple[Tap, ...]:
    """The taps that a user named.

    Args:
        network: Takes pictures; its weights, modes and the random numbers stay as they are.
        example: Pictures as the network wants them, on its device.
        paths: Of modules, as `named_modules` has them.
        option: What the user typed before them.

    Returns:
        A tap for each path, in their order.

    Raises:
        ConfigError: There is no such module, or what it gives cannot be read as a map.
    """
    names = [name for name, _ in network.named_modules() if name]
    calls = _trace(network, example)
    places = {call.path: place for place, call in enumerate(calls)}
    taps: list[Tap] = []
    for path in paths:
        if path not in names:
            near = difflib.get_close_matches(path, names, n=3)
            remedy = f"did you mean {', '.join(near)}?" if near else f"as {', '.join(names[:3])}"
            raise ConfigError(f"`{option}` must name a module of the network, got {path}; {remedy}")
        place = places.get(path)
        given = () if place is None else calls[place].given
        tap = _read(path, given, example, depth=(place or 0) / max(1, len(calls) - 1))
        if tap is None:
            shape = f"which gives {list(given)}" if given else "which gives no tensor"
            found = ", ".join(tap.path for tap in find_taps(network, example)) or "no module"
            raise ConfigError(
                f"`{option}` must name a module that gives a map, got {path}, {shape}; "
                f"{found} would do"
            )
        taps.append(tap)
    return tuple(taps)


def match_taps(
    student_taps: Sequence[Tap], teacher_taps: Sequence[Tap], *, at_least: int = 1
) -> tuple[tuple[Tap, Tap], ...]:
    """Which tap of a student learns from which of a teacher.

    Taps of equal resolution are paired, from the deepest; where that gives fewer pairs than
    asked for, taps are paired by their place among the others, the deepest with the deepest.

    Args:
        student_taps: In order of execution.
        teacher_taps: In order of execution.
        at_least: Pairs wanted; fewer come only where a side has fewer taps.

    Returns:
        Pairs of a student's and a teacher's tap, in order of execution; each tap at most once.
    """
    pairs: list[tuple[Tap, Tap]] = []
    left = list(teacher_taps)
    for tap in reversed(student_taps):
        equal = [place for place, other in enumerate(left) if other.size == tap.size]
        if equal:
            pairs.insert(0, (tap, left[equal[-1]]))
            left = left[: equal[-1]]
    if len(pairs) >= at_least:
        return tuple(pairs)
    n_pairs = min(len(student_taps), len(teacher_taps))
    student_taps, teacher_taps = _spread(student_taps, n_pairs), _spread(teacher_taps, n_pairs)
    return tuple(zip(student_taps, teacher_taps, strict=True))


def first_tensor(value: object) -> Tensor | None:
    """The tensor that a module gives, or the first of several.

    Args:
        value: What came out: a tensor, or tensors in a tuple, a list or a dictionary.

    Returns:
        A tensor; none where there is none in front.
    """
    if isinstance(value, dict):
        value = list(cast("dict[object, object]", value).values())
    if isinstance(value, tuple | list):
        values = cast("Sequence[object]", value)
        value = values[0] if values else None
    return value if isinstance(value, Tensor) else None


@torch.no_grad()
def _trace(network: nn.Module, example: Tensor) -> list[_Call]:
    """The last call of each module, in the order in which they ended."""
    calls: dict[str, _Call] = {}

    def build_hook(path: str) -> Callable[[nn.Module, tuple[object, ...], object], None]:
        def note(module: nn.Module, arguments: tuple[object, ...], output: object) -> None:
            taken, given = first_tensor(arguments), first_tensor(output)
            calls.pop(path, None)
            calls[path] = _Call(
                path=path,
                module=module,
                taken=() if taken is None else tuple(taken.shape),
                given=() if given is None else tuple(given.shape),
            )

        return note

    with _evaluating(network), contextlib.ExitStack() as hooks:
        for path, module in network.named_modules():
            hooks.callback(module.register_forward_hook(build_hook(path)).remove)
        network(example)
    return list(calls.values())


@contextlib.contextmanager
def _evaluating(network: nn.Module) -> Generator[None]:
    """Every module in evaluation mode, and back; `eval()` is refused by exported programs."""
    training = [module for module in network.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _maps_of(calls: Sequence[_Call], example: Tensor) -> list[tuple[_Call, Tap]]:
    """The calls that give a map of what was learnt, without detours and matrices of attention."""
    maps: list[tuple[_Call, Tap]] = []
    is_learnt = False
    for place, call in enumerate(calls):
        is_learnt = is_learnt or next(call.module.parameters(), None) is not None
        tap = _read(call.path, call.given, example, depth=place / max(1, len(calls) - 1))
        if tap is None or not is_learnt or isinstance(call.module, _UNCHANGED):
            continue
        is_larger = bool(maps) and tap.height > maps[0][1].height  # than the first: attention
        if call.path and tap.height * tap.width > 1 and not is_larger:
            maps.append((call, tap))
    heights = {tap.path: tap.height for _, tap in maps}
    return [(call, tap) for call, tap in maps if not _is_detour(tap, heights)]


def _is_detour(tap: Tap, heights: dict[str, int]) -> bool:
    """Whether a module around it gives a larger map: keys of attention, gates, mixed tokens."""
    parts = tap.path.split(".")
    around = (".".join(parts[:end]) for end in range(1, len(parts)))
    return any(heights.get(path, 0) > tap.height for path in around)


def _last_of(taps: Sequence[tuple[_Call, Tap]]) -> Tap:
    """The end of a stage: the last map beside the module that learns most at this resolution."""
    stages = [
        call for call, _ in taps
        if any(_count_weights(child) for child in call.module.children())
    ]  # fmt: skip
    if not stages:  # none is made of learning modules: a plain row of layers
        return taps[-1][1]
    heaviest = max(stages, key=lambda call: _count_weights(call.module))
    parent = _parent_of(heaviest.path)
    return [tap for call, tap in taps if _parent_of(call.path) == parent][-1]


def _parent_of(path: str) -> str:
    """Where a module stands."""
    return path.rpartition(".")[0]


def _blocks_of(taps: Sequence[tuple[_Call, Tap]]) -> tuple[Tap, ...]:
    """Evenly spaced ones of the repeated blocks: siblings of one kind with the most weights."""
    kinds: dict[tuple[str, type], list[tuple[_Call, Tap]]] = defaultdict(list)
    for call, tap in taps:
        if next(call.module.children(), None) is not None:
            kinds[_parent_of(call.path), type(call.module)].append((call, tap))
    repeated = [kind for kind in kinds.values() if len(kind) > 1]
    if not repeated:
        return (taps[-1][1],)
    blocks = max(repeated, key=lambda kind: sum(_count_weights(call.module) for call, _ in kind))
    return _spread([tap for _, tap in blocks], min(_N_DEPTHS, len(blocks)))


def _count_weights(module: nn.Module) -> int:
    """How many numbers a module learns."""
    return sum(value.numel() for value in module.parameters())


def _spread(taps: Sequence[Tap], n_taps: int) -> tuple[Tap, ...]:
    """Evenly spaced taps, the last one included."""
    return tuple(taps[(place + 1) * len(taps) // n_taps - 1] for place in range(n_taps))


def _read(path: str, given: tuple[int, ...], example: Tensor, *, depth: float) -> Tap | None:
    """A tap for an output of this shape, if it is a map as wide for its height as the picture."""
    if len(given) not in (3, 4) or given[0] != len(example):
        return None
    picture = (example.shape[2], example.shape[3])
    if len(given) == 3:
        return _read_tokens(path, given, picture, depth=depth)
    _, first, second, third = given
    if _has_aspect(second, third, picture):
        return Tap(
            path=path, channels=first, height=second, width=third, layout="nchw", depth=depth
        )
    if _has_aspect(first, second, picture):
        return Tap(
            path=path, channels=third, height=first, width=second, layout="nhwc", depth=depth
        )
    return None


def _read_tokens(
    path: str, given: tuple[int, ...], picture: tuple[int, int], *, depth: float
) -> Tap | None:
    """A tap for tokens that fold into the picture's rectangle after a known prefix."""
    for n_prefix in _PREFIXES:
        n_tokens = given[1] - n_prefix
        height = round((max(n_tokens, 0) * picture[0] / picture[1]) ** 0.5)
        if height < 2 or n_tokens % height:
            continue
        width = n_tokens // height
        if _has_aspect(height, width, picture):
            return Tap(
                path=path, channels=given[2], height=height, width=width,
                layout="tokens", n_prefix=n_prefix, depth=depth,
            )  # fmt: skip
    return None


def _has_aspect(height: int, width: int, picture: tuple[int, int]) -> bool:
    """Whether a map has the picture's proportions; those of an oblong one to a column or so."""
    if picture[0] == picture[1]:
        return height == width
    return abs(width - height * picture[1] / picture[0]) <= 1
