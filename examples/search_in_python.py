"""The same as `autokd search`, `autokd front` and `autokd export`, from Python."""

from pathlib import Path

import autokd

config = autokd.build_config(flags={"data": "digits", "budget": 10, "study": "from-python"})
front = autokd.search(config)

for student in front.students:
    print(f"trial {student.trial}: {student.test_accuracy:.1%} in {student.latency_ms:.4f} ms")

bundle = autokd.export("from-python", pick="knee", out=Path("student"))
print(f"{bundle.files[0].parent}: {bundle.onnx_test_accuracy:.1%} in onnxruntime")
