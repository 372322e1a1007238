import ctypes
import dataclasses
import os
import resource
import signal
import subprocess
import sys
import time

import psutil
import pytest
import torch

from autokd.study import forked_crew, stillness
from autokd.study.crew import Crew, InlineCrew, Job
from autokd.study.forked_crew import ForkedCrew
from autokd.study.interrupts import ending_gently
from autokd.study.stillness import TrainingProcess, still
from autokd.types import EpochLog


def row(epoch: int) -> EpochLog:
    return EpochLog(
        epoch=epoch, train_loss=0.0, val_loss=0.0, val_accuracy=0.5, learning_rate=0.1,
        alpha=0.0, temperature=1.0, seconds=0.0,
    )  # fmt: skip


def job(work, key="it", *, stops=()) -> Job:
    return Job(key=key, title=f"job {key}", epochs=2, work=work, stops=stops)


def tick(path, *, n) -> None:
    for _ in range(n):
        with path.open("a") as file:
            file.write(".")
        time.sleep(0.02)


def ignore(_job, _row) -> None:
    pass


@pytest.fixture(params=[InlineCrew, lambda: ForkedCrew(2)], ids=["inline", "forked"])
def crew(request):
    crew = request.param()
    yield crew
    crew.close()


def test_what_a_forked_job_prints_is_not_on_stdout(capfd):
    crew = ForkedCrew(1)
    crew.start(job(lambda _: print("from the user's code", flush=True)))  # noqa: T201
    crew.wait(ignore)
    crew.close()
    out, err = capfd.readouterr()
    assert "from the user" not in out
    assert "from the user" in err


def test_every_crew_is_a_crew(crew):
    assert isinstance(crew, Crew)
    assert crew.size >= 1


def test_a_job_tells_of_its_epochs_and_gives_its_result(crew):
    def work(on_epoch):
        on_epoch(row(1))
        on_epoch(row(2))
        return {"accuracy": 0.5}

    rows = []
    crew.start(job(work))
    assert [one.key for one in crew.running] == ["it"]
    done = crew.wait(lambda which, epoch: rows.append((which.key, epoch.epoch)))
    assert (done.job.key, done.result, done.fault) == ("it", {"accuracy": 0.5}, "")
    assert rows == [("it", 1), ("it", 2)]
    assert not crew.running


def test_what_a_job_raises_is_raised_by_the_wait(crew):
    def work(_):
        raise OSError(28, "No space left on device")

    crew.start(job(work))
    with pytest.raises(OSError, match="No space left") as caught:
        crew.wait(ignore)
    assert caught.value.errno == 28


def test_jobs_run_side_by_side_in_processes_of_their_own():
    def work(_):
        start = time.monotonic()
        time.sleep(2.0)
        return os.getpid(), start, time.monotonic()

    crew = ForkedCrew(2)
    for key in range(2):
        crew.start(job(work, key=key))
    with pytest.raises(ValueError, match="free slot"):
        crew.start(job(lambda _: None))
    (one, start, end), (other, other_start, other_end) = (
        crew.wait(ignore).result for _ in range(2)
    )
    assert max(start, other_start) < min(end, other_end)  # both ran at once
    assert len({one, other, os.getpid()}) == 3


@pytest.mark.parametrize("n_epochs", [0, 1])
def test_a_killed_job_is_begun_again(n_epochs, tmp_path):
    def work(on_epoch):
        """Dies twice, after an epoch twice more."""
        tries = tmp_path / "tries"
        n = tries.stat().st_size if tries.exists() else 0
        tries.write_text("." * (n + 1))
        if n == 2 and n_epochs:
            on_epoch(row(1))
        if n < 2 * (1 + n_epochs):
            os.kill(os.getpid(), signal.SIGKILL)
        return "well"

    crew = ForkedCrew(1)
    crew.start(job(work))
    assert crew.wait(ignore).result == "well"


def test_a_polite_kill_of_one_job_begins_it_again_and_halts_nobody(tmp_path):
    tried = tmp_path / "tried"

    def work(_):
        if not tried.exists():
            tried.touch()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(10)
        return "well"

    crew = ForkedCrew(2)
    with ending_gently(crew.halt):
        crew.start(job(work))
        assert crew.wait(ignore).result == "well"
    assert not crew.is_halting


@pytest.mark.parametrize(
    ("vmstat", "end", "fault"),
    [
        ("", "signal 9", "3 times without a result (signal 9); most likely memory ran out"),
        ("oom_kill 7", "signal 9", "10 times without a result (signal 9); something kills it"),
        ("oom_kill 7", "signal 15", "10 times without a result (signal 15); something kills it"),
        ("oom_kill 7", "signal 10", "3 times without a result (signal 10); most likely memory"),
        ("oom_kill 7", "exit 3", "3 times without a result (exit code 3); most likely memory"),
    ],
)
def test_a_job_that_is_killed_again_and_again_is_given_back_with_the_reason(
    vmstat, end, fault, monkeypatch, tmp_path
):
    (tmp_path / "vmstat").write_text(f"pgfault 12\n{vmstat}\noom_kill_other 9\n")
    monkeypatch.setattr(forked_crew, "_VMSTAT", tmp_path / "vmstat")
    kind, number = end.split()

    def work(_):
        if kind == "exit":
            os._exit(int(number))
        os.kill(os.getpid(), int(number))

    crew = ForkedCrew(1)
    crew.start(job(work))
    done = crew.wait(ignore)
    assert done.result is None
    assert fault in done.fault
    assert not crew.running


def test_where_the_kernel_kills_for_memory_three_times_are_enough(monkeypatch, tmp_path):
    def work(_):
        n = int(vmstat.read_text().split()[-1])
        vmstat.write_text(f"oom_kill {n + 1}\n")
        os.kill(os.getpid(), signal.SIGKILL)

    vmstat = tmp_path / "vmstat"
    vmstat.write_text("oom_kill 0\n")
    monkeypatch.setattr(forked_crew, "_VMSTAT", vmstat)
    crew = ForkedCrew(1)
    crew.start(job(work))
    assert "3 times" in crew.wait(ignore).fault
    assert vmstat.read_text() == "oom_kill 3\n"


def test_a_machine_that_tells_nothing_of_its_memory_is_no_fault(monkeypatch, tmp_path):
    monkeypatch.setattr(forked_crew, "_VMSTAT", tmp_path / "nowhere")
    crew = ForkedCrew(1)
    crew.start(job(lambda _: os.kill(os.getpid(), signal.SIGKILL)))
    assert "3 times" in crew.wait(ignore).fault


def test_nothing_moves_while_the_crew_is_paused(tmp_path):
    ticks = tmp_path / "ticks"
    crew = ForkedCrew(1)
    crew.start(job(lambda _: tick(ticks, n=40)))
    while not ticks.exists():
        time.sleep(0.01)
    start = time.monotonic()
    with still():  # which may wait for whoever measures on this machine
        time.sleep(0.1)
        before = ticks.stat().st_size
        time.sleep(0.3)
        assert ticks.stat().st_size == before
    held_s = time.monotonic() - start
    done = crew.wait(ignore)
    assert ticks.stat().st_size == 40
    assert 0.2 < done.paused_s < held_s + 0.2


def test_the_time_of_an_epoch_is_that_of_its_training(tmp_path):
    ticks, rows = tmp_path / "ticks", []

    def work(on_epoch):
        for epoch in (1, 2):
            start = time.perf_counter()
            tick(ticks, n=15)
            on_epoch(dataclasses.replace(row(epoch), seconds=time.perf_counter() - start))

    crew, start = ForkedCrew(1), time.monotonic()
    crew.start(job(work))
    while not ticks.exists():
        time.sleep(0.01)
    with still():
        time.sleep(1.0)
    done = crew.wait(lambda _, one: rows.append(one))
    assert done.paused_s >= 1.0
    assert [one.epoch for one in rows] == [1, 2]
    trained_s = sum(one.seconds for one in rows)
    assert 0.3 <= trained_s <= time.monotonic() - start - done.paused_s + 0.1


def test_what_a_dead_measurer_left_stopped_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(forked_crew, "_LOOK_S", 0.2)
    ticks = tmp_path / "ticks"
    crew, before = ForkedCrew(1), psutil.Process().children()
    crew.start(job(lambda _: tick(ticks, n=10) or os.getpid()))
    while not ticks.exists():
        time.sleep(0.01)
    (child,) = (one for one in psutil.Process().children() if one not in before)
    assert TrainingProcess(stillness._folder() / str(child.pid)).stop()
    assert crew.wait(ignore).result == child.pid
    assert ticks.stat().st_size == 10


def test_closing_kills_what_runs():
    crew = ForkedCrew(1)
    crew.start(job(lambda _: time.sleep(60)))
    start = time.monotonic()
    crew.close()
    assert time.monotonic() - start < 5
    assert not crew.running


def test_a_worker_is_on_one_thread_and_on_its_own_cores():
    crew = ForkedCrew(2)
    for key in range(2):
        crew.start(job(lambda _: (torch.get_num_threads(), os.sched_getaffinity(0)), key=key))
    results = [crew.wait(ignore).result for _ in range(2)]
    assert [threads for threads, _ in results] == [1, 1]
    if len(os.sched_getaffinity(0)) > 1:
        assert not results[0][1] & results[1][1]


def test_a_paused_crew_stands_still(tmp_path):
    ticks, seen = tmp_path / "ticks", []
    crew = ForkedCrew(1)
    crew.start(job(lambda _: tick(ticks, n=40)))
    while not ticks.exists():
        time.sleep(0.01)
    with still():
        time.sleep(0.1)
        seen.append(ticks.stat().st_size)
        time.sleep(0.3)
        seen.append(ticks.stat().st_size)
    done = crew.wait(ignore)
    assert seen[0] == seen[1] < 40
    assert done.paused_s >= 0.4


def test_an_error_that_cannot_travel_is_told_in_words():
    def work(_):
        class Local(Exception):  # noqa: N818 - a stranger's
            pass

        raise Local("far away")

    crew = ForkedCrew(1)
    crew.start(job(work))
    with pytest.raises(RuntimeError, match="Local: far away"):
        crew.wait(ignore)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="needs glibc")
def test_a_forked_job_keeps_what_it_frees():
    def count_faults(_on_epoch):
        faults = []
        for _ in range(6):  # a piece may come to lie in a hole, or in another heap of the thread
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            torch.ones(9 * 2**20).sum()  # 36 MiB: glibc alone would give back more than 32
            faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
        return min(faults[1:])

    crew = ForkedCrew(1)
    crew.start(job(count_faults))
    again = crew.wait(ignore).result
    crew.close()
    assert again < 36 * 2**20 / resource.getpagesize() / 10


def test_a_job_asks_at_its_stops_only_and_ends_where_it_is_told_to(crew):
    def work(on_epoch):
        return [epoch for epoch in (1, 2, 3) if on_epoch(row(epoch)) is not False]

    crew.start(job(work, stops=(2,)))
    assert crew.wait(lambda _job, _row: False).result == [1, 3]
    crew.start(job(work, stops=(2,)))
    assert crew.wait(ignore).result == [1, 2, 3]


def test_what_runs_while_the_crew_halts_ends_after_its_epoch(crew):
    def work(on_epoch):
        epoch = 1
        while on_epoch(row(epoch)) is not False:
            time.sleep(0.01)
            epoch += 1
        return epoch

    def halt(_job, _row) -> None:
        crew.halt()

    assert not crew.is_halting
    crew.start(job(work))
    assert crew.wait(halt).result < 500
    assert crew.is_halting


def test_a_job_that_is_killed_again_and_again_goes_on_as_long_as_epochs_end(tmp_path):
    def work(on_epoch):
        marker = tmp_path / "done"
        n_done = len(marker.read_text()) if marker.exists() else 0
        if n_done == 4:
            return "well"
        on_epoch(row(n_done + 1))
        marker.write_text("x" * (n_done + 1))
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    rows = []
    crew = ForkedCrew(1)
    crew.start(job(work))
    assert crew.wait(lambda _job, epoch: rows.append(epoch.epoch)).result == "well"
    assert rows == [1, 2, 3, 4]


def test_an_epoch_that_is_told_again_makes_good_for_no_death(monkeypatch, tmp_path):
    monkeypatch.setattr(forked_crew, "_VMSTAT", tmp_path / "nowhere")

    def work(on_epoch):
        on_epoch(row(1))
        os.kill(os.getpid(), signal.SIGKILL)

    rows = []
    crew = ForkedCrew(1)
    crew.start(job(work, stops=(1,)))
    done = crew.wait(lambda _job, epoch: rows.append(epoch.epoch))
    assert "3 times" in done.fault
    assert rows == [1, 1, 1]


EXPORTED_BEFORE_A_GRADIENT = """
import torch
from autokd.study.crew import Job
from autokd.study.crews import build_crew

def backward():
    (torch.ones(2, requires_grad=True) ** 2).sum().backward()

crew = build_crew(2, device=torch.device("cpu"))
torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
backward()  # of the sampler's model
crew.start(Job(key=1, title="a training", epochs=1, work=lambda _: backward() or "trained"))
print(type(crew).__name__, crew.wait(lambda *_: None).result)
"""


def test_an_export_and_a_gradient_here_forbid_no_gradient_in_a_training():
    code = EXPORTED_BEFORE_A_GRADIENT
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["ForkedCrew", "trained"], done.stderr
