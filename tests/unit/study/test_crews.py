"""Which crew trains on this machine."""

import torch

from autokd.study.crew import InlineCrew
from autokd.study.crews import build_crew


def test_one_worker_or_a_gpu_is_this_process_alone():
    assert isinstance(build_crew(1, device=torch.device("cpu")), InlineCrew)
    assert isinstance(build_crew(4, device=torch.device("cuda")), InlineCrew)


def test_a_container_has_as_many_workers_as_it_may_use(monkeypatch):
    monkeypatch.setattr("autokd.study.crews.joblib.cpu_count", lambda: 1)
    assert build_crew(None, device=torch.device("cpu")).size == 1
