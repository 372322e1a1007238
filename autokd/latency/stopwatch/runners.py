"""What runs a network once, for each runtime; its inputs and outputs lie ready."""

import hashlib
import importlib
import importlib.metadata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["RUNTIMES", "Setting", "build_run", "make_input"]

_PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    "onnxruntime:cuda": "CUDAExecutionProvider",
    "onnxruntime:tensorrt": "TensorrtExecutionProvider",
    "onnxruntime:openvino": "OpenVINOExecutionProvider",
}
_TYPES = {
    "float": np.float32,
    "float16": np.float16,
    "double": np.float64,
    "uint8": np.uint8,
    "int8": np.int8,
    "int32": np.int32,
    "int64": np.int64,
    "bool": np.bool_,
}


@dataclass(frozen=True)
class Setting:
    """What a network is run with.

    Attributes:
        threads: Of the runtime.
        batch: Pictures per run.
        shape: Of one picture, for inputs that leave it open; empty if none does.
        scratch: Folder for what is compiled or converted, kept for the next process.
    """

    threads: int
    batch: int
    shape: tuple[int, ...] = ()
    scratch: Path = Path()

    def place_for(self, path: Path, *, suffix: str) -> Path:
        """Where to put what is made of a file."""
        digest = hashlib.sha256(str(path).encode()).hexdigest()[:16]
        return self.scratch / f"{digest}{suffix}"


def build_run(runtime: str, path: Path, *, setting: Setting) -> tuple[Callable[[], Any], str]:
    """A function that runs the file once, and the name and version of what runs it.

    Args:
        runtime: One of `RUNTIMES`.
        path: The file.
        setting: Threads and shapes.

    Returns:
        Both; what the runtime raises where it cannot load the file passes through.
    """
    return RUNTIMES[runtime](runtime, path, setting)


def make_input(sides: Sequence[object], kind: str, *, setting: Setting, name: str) -> NDArray[Any]:
    """Values for an input.

    Args:
        sides: Its shape; a side that is no positive number is open.
        kind: Name of its type.
        setting: Fills the open sides: the first with the batch, the others from the shape.
        name: Of the input, for the error.

    Returns:
        Random numbers in [0, 1), or 0 to 255 for bytes; zeros for other whole numbers, which
        may be indices.

    Raises:
        ValueError: A side stays open, or there is no such type.
    """
    if kind not in _TYPES:
        raise ValueError(f"input `{name}` must be of a type in {', '.join(_TYPES)}, got {kind}")
    filled = [side if isinstance(side, int) and side > 0 else None for side in sides]
    if filled and filled[0] not in (None, setting.batch):
        raise ValueError(
            f"input `{name}` must have an open batch or one of {setting.batch}, got {filled[0]}; "
            f"measure with --batch {filled[0]} (in a study --latency-batch {filled[0]}), or "
            "export it with an open one"
        )
    if filled and filled[0] is None:
        filled[0] = setting.batch
    if None in filled and len(setting.shape) == len(filled) - 1:
        shape = (setting.batch, *setting.shape)
        filled = [new if side is None else side for side, new in zip(filled, shape, strict=True)]
    known = [side for side in filled if side is not None]
    if len(known) < len(filled):
        shown = ", ".join(map(str, sides))
        raise ValueError(f"input `{name}` must have known sides, got ({shown}); pass --shape")
    random, type_ = np.random.default_rng(0), _TYPES[kind]
    if type_ is np.uint8:
        return random.integers(256, size=known, dtype=np.uint8)
    if np.issubdtype(type_, np.floating):
        return random.random(known).astype(type_)
    return np.zeros(known, type_)


def _build_onnxruntime(runtime: str, path: Path, setting: Setting) -> tuple[Callable[[], Any], str]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = setting.threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    provider = _PROVIDERS[runtime]
    if provider not in onnxruntime.get_available_providers():
        raise ValueError(f"onnxruntime must have the provider {provider}")
    wanted = (
        [provider] if provider == _PROVIDERS["onnxruntime"] else [provider, "CPUExecutionProvider"]
    )
    session = onnxruntime.InferenceSession(str(path), options, providers=wanted)
    if session.get_providers()[0] != provider:
        raise ValueError(f"onnxruntime must be able to use {provider}, it fell back to the CPU")
    binding = session.io_binding()
    for node in session.get_inputs():
        kind = node.type.removeprefix("tensor(").removesuffix(")")
        values = make_input(node.shape, kind, setting=setting, name=node.name)
        binding.bind_ortvalue_input(node.name, onnxruntime.OrtValue.ortvalue_from_numpy(values))
    for node in session.get_outputs():
        binding.bind_output(node.name)
    name = f"onnxruntime {onnxruntime.__version__} {provider.removesuffix('ExecutionProvider')}"
    return lambda: session.run_with_iobinding(binding), name


def _build_openvino(_: str, path: Path, setting: Setting) -> tuple[Callable[[], Any], str]:
    import openvino

    model = openvino.Core().read_model(str(path))
    inputs: dict[str, NDArray[Any]] = {}
    for port in model.inputs:
        sides = [side.get_length() if side.is_static else None for side in port.partial_shape]
        kind = {"f32": "float", "f64": "double", "f16": "float16", "u8": "uint8"}.get(
            port.element_type.get_type_name(), str(port.element_type.to_dtype().name)
        )
        name = port.any_name
        inputs[name] = make_input(sides, kind, setting=setting, name=name)
    model.reshape({name: list(values.shape) for name, values in inputs.items()})
    options = {
        "INFERENCE_NUM_THREADS": setting.threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino.Core().compile_model(model, "CPU", options).create_infer_request()
    for name, values in inputs.items():
        request.set_tensor(name, openvino.Tensor(values))
    return request.infer, f"openvino {openvino.__version__.split('-')[0]} CPU"


def _build_torch(runtime: str, path: Path, setting: Setting) -> tuple[Callable[[], Any], str]:
    import torch

    torch.set_num_threads(setting.threads)
    program = torch.export.load(path.with_suffix(".pt2"))
    (example,) = program.example_inputs[0] if program.example_inputs else (None,)
    if example is None:
        raise ValueError("the program must have been saved with an example of its input")
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(setting.batch, *example.shape[1:], generator=generator)
    name = f"torch {torch.__version__.split('+')[0]} CPU"
    if runtime == "torch":
        network: Any = program.module()
    else:
        inductor: Any = importlib.import_module("torch._inductor")
        package = setting.place_for(path, suffix=".pt2")
        if not package.exists():
            inductor.aoti_compile_and_package(program, package_path=str(package))
        network, name = inductor.aoti_load_package(str(package)), f"{name} compiled"

    @torch.inference_mode()
    def run() -> None:
        network(pictures)

    return run, name


def _build_tflite(_: str, path: Path, setting: Setting) -> tuple[Callable[[], Any], str]:
    litert: Any = importlib.import_module("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(
        model_path=str(_as_tflite(path, setting)), num_threads=setting.threads
    )
    for node in interpreter.get_input_details():
        sides = [setting.batch, *map(int, node["shape"][1:])]
        interpreter.resize_tensor_input(node["index"], sides)
    interpreter.allocate_tensors()
    for node in interpreter.get_input_details():
        kind = np.dtype(node["dtype"]).name.replace("float32", "float")
        sides = list(map(int, node["shape"]))
        values = make_input(sides, kind, setting=setting, name=node["name"])
        interpreter.set_tensor(node["index"], values)
    return interpreter.invoke, f"tflite {importlib.metadata.version('ai-edge-litert')} CPU"


def _as_tflite(path: Path, setting: Setting) -> Path:
    """The file beside the network, or one that is made of it now."""
    if (beside := path.with_suffix(".tflite")).exists():
        return beside
    folder = setting.place_for(path, suffix=".tflite")
    if not folder.exists():
        onnx2tf: Any = importlib.import_module("onnx2tf")
        onnx2tf.convert(
            input_onnx_file_path=str(path),
            output_folder_path=str(folder),
            output_signaturedefs=True,  # names of operators may be anything then
            non_verbose=True,
        )
    return next(folder.glob("*_float32.tflite"))


RUNTIMES: dict[str, Callable[[str, Path, Setting], tuple[Callable[[], Any], str]]] = {
    **dict.fromkeys(_PROVIDERS, _build_onnxruntime),
    "openvino": _build_openvino,
    "torch": _build_torch,
    "torch:compiled": _build_torch,
    "tflite": _build_tflite,
}
"""What can be timed, by its name on the command line."""
