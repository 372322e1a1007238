"""A student becomes files: ONNX, torch.export, safetensors, a card; each is checked."""

from autokd.exporters.bundle import Bundle, Pictures, QuantizedFile, export_bundle
from autokd.exporters.card import render_card
from autokd.exporters.onnx_file import OnnxNetwork, export_onnx
from autokd.exporters.quantizing import Quantizer, products_saturate, quantize_onnx

__all__ = [
    "Bundle",
    "OnnxNetwork",
    "Pictures",
    "QuantizedFile",
    "Quantizer",
    "export_bundle",
    "export_onnx",
    "products_saturate",
    "quantize_onnx",
    "render_card",
]
