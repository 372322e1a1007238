import os

import numpy as np
import pytest
import torch

from autokd.surrogate import AccuracyModel, Evidence, hyperparameters


def evidence(n):
    rng = np.random.default_rng(0)
    return Evidence(
        traits=rng.normal(size=(n, 2)), architecture=rng.random((n, 3)), recipe=rng.random((n, 2))
    )


def predict(known):
    model = AccuracyModel()
    model.fit(known, 0.7 + 0.02 * known.traits[:, 0])
    return model.predict(known)[0]


def pretend_gpu(monkeypatch, *, is_used):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: is_used)


def test_beside_an_idle_gpu_this_process_computes_no_gradient(monkeypatch):
    known, backward, calls = evidence(12), torch.autograd.backward, []

    def count(*words, **options):
        calls.append(os.getpid())
        backward(*words, **options)

    monkeypatch.setattr(torch.autograd, "backward", count)
    here, n_here = predict(known), len(calls)
    pretend_gpu(monkeypatch, is_used=False)
    assert predict(known) == pytest.approx(here, abs=1e-6)
    assert len(calls) == n_here > 0


def test_a_gpu_in_use_forks_nothing(monkeypatch):
    pretend_gpu(monkeypatch, is_used=True)
    monkeypatch.setattr(hyperparameters.multiprocessing, "get_context", None)
    assert len(predict(evidence(12))) == 12


def test_a_child_that_dies_leaves_the_hyperparameters_as_they_were(monkeypatch):
    pretend_gpu(monkeypatch, is_used=False)
    monkeypatch.setattr(hyperparameters, "_fit", lambda _model, _steps: os._exit(9))
    assert len(predict(evidence(12))) == 12
