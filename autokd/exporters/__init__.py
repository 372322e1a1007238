"""A student becomes files: ONNX, torch.export, safetensors, a card; each is checked."""

from autokd.exporters.bundle import Bundle, Pictures, export_bundle
from autokd.exporters.card import render_card
from autokd.exporters.onnx_file import OnnxNetwork, export_onnx
from autokd.exporters.program import export_program

__all__ = [
    "Bundle",
    "OnnxNetwork",
    "Pictures",
    "export_bundle",
    "export_onnx",
    "export_program",
    "render_card",
]
