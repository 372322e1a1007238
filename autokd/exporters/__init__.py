"""A student becomes files: ONNX, torch.export, safetensors, a card; each is checked."""

from autokd.exporters.bundle import Bundle, Pictures, export_bundle
from autokd.exporters.card import render_card
from autokd.exporters.onnx_file import OnnxNetwork, export_onnx
from autokd.exporters.quantized_file import export_quantized, safe_weight_bits

__all__ = [
    "Bundle",
    "OnnxNetwork",
    "Pictures",
    "export_bundle",
    "export_onnx",
    "export_quantized",
    "render_card",
    "safe_weight_bits",
]
