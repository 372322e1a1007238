"""A student becomes files: ONNX, torch.export, safetensors, a card; each is checked."""

from autokd.exporters.bundle import Bundle, Pictures, check_folder, export_bundle
from autokd.exporters.card import render_card
from autokd.exporters.onnx_file import OnnxNetwork, export_onnx
from autokd.exporters.openvino_file import OpenVinoNetwork, export_openvino, has_openvino
from autokd.exporters.quantized_file import export_quantized, safe_weight_bits

__all__ = [
    "Bundle",
    "OnnxNetwork",
    "OpenVinoNetwork",
    "Pictures",
    "check_folder",
    "export_bundle",
    "export_onnx",
    "export_openvino",
    "export_quantized",
    "has_openvino",
    "render_card",
    "safe_weight_bits",
]
