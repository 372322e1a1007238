"""A student becomes files: ONNX, torch.export, safetensors, a card; each is checked."""

from autokd.exporters.bundle import (
    Bundle,
    Pictures,
    QuantizedFile,
    check_folder,
    export_bundle,
)
from autokd.exporters.card import render_card
from autokd.exporters.onnx_file import OnnxNetwork, check_onnx, export_onnx
from autokd.exporters.openvino_file import OpenVinoNetwork, export_openvino, has_openvino
from autokd.exporters.program import export_program
from autokd.exporters.quantized_file import export_quantized
from autokd.exporters.quantizing import Quantizer, quantize_onnx
from autokd.exporters.saturation import safe_weight_bits
from autokd.exporters.tower_files import export_towers, write_tower_files
from autokd.exporters.weights_file import dump_weights

__all__ = [
    "Bundle",
    "OnnxNetwork",
    "OpenVinoNetwork",
    "Pictures",
    "QuantizedFile",
    "Quantizer",
    "check_folder",
    "check_onnx",
    "dump_weights",
    "export_bundle",
    "export_onnx",
    "export_openvino",
    "export_program",
    "export_quantized",
    "export_towers",
    "has_openvino",
    "quantize_onnx",
    "render_card",
    "safe_weight_bits",
    "write_tower_files",
]
