"""What all tests share."""

import os

import pytest
from hypothesis import HealthCheck, settings

os.environ.pop("AUTOKD_CACHE", None)  # that of whoever runs the tests
os.environ.setdefault("OMP_NUM_THREADS", "1")  # a process a core; torch reads it on import

# Machines that tests run on swing in speed: an example may take long without being wrong, and the
# examples are the same each time.
settings.register_profile(
    "steady",
    deadline=None,
    derandomize=True,
    max_examples=50,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("steady")


@pytest.fixture(scope="session", autouse=True)
def settled_autograd():
    """As `build_crew` does it: an export would otherwise forbid gradients in what tests fork."""
    import torch

    torch.ones(1, requires_grad=True).sum().backward()
