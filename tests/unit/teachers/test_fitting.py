"""A network that several processes want is trained by one of them."""

import logging
import threading

import pytest
import torch
from safetensors.torch import save_file

from autokd.teachers.fitting import fit_once
from autokd.teachers.plans import TeacherPlan
from autokd.teachers.preprocessing import plain_preprocessing
from autokd.teachers.teacher import Source
from tests.unit.teachers.conftest import Net

PLAN = TeacherPlan(epochs=1, batch_size=2, learning_rate=0.1, weight_decay=0.0)


class Fits:
    """Makes every network another one, as trainings on two machines do."""

    def __init__(self, within=lambda: None):
        self.count, self._within = 0, within

    def __call__(self, network, *, plan, checkpoint):
        assert plan is PLAN
        self.count += 1
        checkpoint.write_text("an epoch")
        self._within()
        with torch.no_grad():
            for value in network.parameters():
                value.add_(self.count)
        return network


@pytest.fixture
def fit_with(card, tmp_path):
    def fit_with(fits):
        torch.manual_seed(0)
        source = Source(network=Net(), preprocessing=plain_preprocessing((3, 12, 12)))
        path = fit_once(source, origin="o", plan=PLAN, data=card(), fit=fits, cache=tmp_path)
        return source.network.state_dict(), path

    return fit_with


def is_same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_second_waits_for_the_first_and_has_its_weights(fit_with, caplog):
    is_begun, is_let_go = threading.Event(), threading.Event()
    found = {}

    def within():
        is_begun.set()
        assert is_let_go.wait(10)

    fits = Fits(within)
    threads = [
        threading.Thread(target=lambda name=name: found.update({name: fit_with(fits)}))
        for name in ("first", "second")
    ]
    with caplog.at_level(logging.WARNING):
        threads[0].start()
        assert is_begun.wait(10)
        threads[1].start()
        while "another process trains the same teacher; waiting for its" not in caplog.text:
            assert threads[1].is_alive()
        is_let_go.set()
        for thread in threads:
            thread.join()
    assert fits.count == 1
    assert is_same(found["first"][0], found["second"][0])
    assert not list(found["first"][1].parent.glob("*.checkpoint"))


def test_a_training_that_is_interrupted_keeps_nobody_waiting(fit_with, caplog):
    def within():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_with(Fits(within))
    _, path = fit_with(fits := Fits())
    assert fits.count == 1
    assert path.exists()
    assert not caplog.records


def test_weights_that_a_worker_has_brought_meanwhile_are_taken(fit_with, tmp_path):
    torch.manual_seed(1)
    brought = Net().state_dict()

    def within():
        (checkpoint,) = (tmp_path / "teachers").glob("*.checkpoint")
        save_file(brought, checkpoint.with_suffix(".safetensors"))

    state, path = fit_with(Fits(within))
    assert is_same(state, brought)
    assert is_same(fit_with(fits := Fits())[0], brought)
    assert fits.count == 0
    assert not path.with_suffix(".checkpoint").exists()
