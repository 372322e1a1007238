"""A teacher is asked once about each view of each picture."""

import multiprocessing
import shutil
import time
import warnings
from collections import namedtuple

import pytest
import torch

from autokd.errors import TeacherError
from autokd.teachers import KnowledgeBank, expand_answers

N = 300


class Counting(torch.nn.Module):
    """Says something of each picture, and counts how many it was asked about."""

    def __init__(self, n_classes=10, scale=1.0):
        super().__init__()
        self.n_asked, self.n_classes, self.scale = 0, n_classes, scale

    def forward(self, views):
        self.n_asked += len(views)
        base = views.flatten(1).mean(1, keepdim=True)
        return self.scale * torch.sin(base * torch.arange(1, self.n_classes + 1) * 7)


def pictures(indices, *, view=0):
    generator = torch.Generator().manual_seed(view)
    return torch.rand(N, 1, 4, 4, generator=generator)[indices]


def bank(folder, teacher, **options):
    options = {"teacher_digest": "t", "data_digest": "d", **options}
    return KnowledgeBank(teacher, cache=folder, **options)


def recall(bank, *, view=0, policy="crop"):
    return bank.recall(
        policy, view=view, n_pictures=N, render=lambda indices: pictures(indices, view=view)
    )


def test_what_is_kept_is_what_the_teacher_says(tmp_path):
    teacher = Counting()
    kept = recall(bank(tmp_path, teacher))
    assert kept.dtype == torch.float16
    live = teacher(pictures(torch.arange(N)))
    assert torch.allclose(kept.float(), live, atol=1e-3)


def test_it_is_asked_once_for_all_trials_and_sessions(tmp_path):
    teacher = Counting()
    for _ in range(2):
        one = bank(tmp_path, teacher)
        recall(one)
        recall(one)
        recall(one, view=1)
    assert teacher.n_asked == 2 * N


class Shared(torch.nn.Module):
    """Counts in memory that processes share, and takes its time."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def forward(self, views):
        with self.count.get_lock():
            self.count.value += len(views)
        time.sleep(0.3)
        return views.flatten(1)


def test_two_processes_that_ask_at_once_fill_a_view_once(tmp_path):
    context = multiprocessing.get_context("fork")
    count, gate, answers = context.Value("i", 0), context.Barrier(2), context.SimpleQueue()

    def ask():
        gate.wait(timeout=30)
        answers.put(recall(bank(tmp_path, Shared(count))).double().sum().item())

    processes = [context.Process(target=ask) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside other threads
        for process in processes:
            process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert count.value == N
    expected = pictures(torch.arange(N)).half().double().sum().item()
    assert [answers.get(), answers.get()] == pytest.approx([expected, expected])


@pytest.mark.parametrize(
    "other",
    [{"teacher_digest": "other"}, {"data_digest": "other"}, {"device_type": "cuda"}],
    ids=str,
)
def test_another_teacher_other_pictures_or_another_device_are_another_bank(tmp_path, other):
    teacher = Counting()
    recall(bank(tmp_path, teacher))
    recall(bank(tmp_path, teacher, **other))
    assert teacher.n_asked == 2 * N


def test_another_policy_is_asked_anew(tmp_path):
    teacher = Counting()
    recall(bank(tmp_path, teacher), policy="crop")
    recall(bank(tmp_path, teacher), policy="flip")
    assert teacher.n_asked == 2 * N


def test_a_view_that_was_cut_off_leaves_nothing_and_is_made_again(tmp_path):
    class Dying(Counting):
        def forward(self, views):
            if self.n_asked:
                raise KeyboardInterrupt
            return super().forward(views)

    with pytest.raises(KeyboardInterrupt):
        recall(bank(tmp_path, Dying()))
    assert not list(tmp_path.rglob("*.npy"))
    assert len(recall(bank(tmp_path, Counting()))) == N


def test_many_classes_keep_the_likeliest_and_the_mass_of_the_rest(tmp_path):
    teacher = Counting(n_classes=1500, scale=8.0)
    kept = expand_answers(recall(bank(tmp_path, teacher)))
    live = teacher(pictures(torch.arange(N))).log_softmax(1)
    assert kept.shape == live.shape
    assert torch.allclose(kept.exp().sum(1), torch.ones(N), atol=1e-4)
    top = live.topk(32, dim=1)
    assert torch.allclose(kept.gather(1, top.indices), top.values, atol=1e-4)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.npy"))
    assert size < N * 1500 * 2 / 4


def test_a_bank_that_agrees_passes_the_check(tmp_path):
    teacher = Counting(scale=30.0)
    one, some = bank(tmp_path, teacher), torch.tensor([5, 250, 17])
    one.check(recall(one)[some], pictures(some))
    many = Counting(n_classes=1500)
    one = bank(tmp_path, many, teacher_digest="many")
    one.check(recall(one)[some], pictures(some))


def test_a_stale_bank_is_refused_in_one_line(tmp_path):
    recall(bank(tmp_path, Counting()))
    changed, some = bank(tmp_path, Counting(scale=1.1)), torch.arange(8)
    with pytest.raises(TeacherError, match="the teacher has changed: remove") as caught:
        changed.check(recall(changed)[some], pictures(some))
    assert "\n" not in str(caught.value)


def test_a_changed_teacher_of_many_classes_is_noticed_and_a_tie_is_not(tmp_path):
    class Tied(Counting):
        """Two classes, the last that is kept and the first that is not, are as likely."""

        first, second = 31, 32

        def forward(self, views):
            logits = -0.2 * torch.arange(self.n_classes).expand(len(views), -1).clone()
            logits[:, [self.first, self.second]] = torch.tensor([-6.3, -6.3001])
            return logits

    tied, some = Tied(n_classes=1500), torch.arange(8)
    recall(bank(tmp_path, tied))
    tied.first, tied.second = 32, 31
    again = bank(tmp_path, tied)
    again.check(recall(again)[some], pictures(some))
    other = bank(tmp_path, Counting(n_classes=1500))
    with pytest.raises(TeacherError, match="the teacher has changed"):
        other.check(recall(other)[some], pictures(some))


def test_a_sure_teacher_of_many_classes_agrees_with_what_it_said(tmp_path):
    teacher, some = Counting(n_classes=1500, scale=300.0), torch.arange(8)
    one = bank(tmp_path, teacher)
    kept = recall(one)
    one.check(kept[some], pictures(some))
    live = teacher(pictures(torch.arange(N))).log_softmax(1)
    least = live.topk(32, dim=1).values[:, -1]
    assert (expand_answers(kept).amin(1) <= least).all(), "the rest is less likely"


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0, 20.0])
def test_the_rest_of_many_classes_weighs_what_it_does_at_any_temperature(tmp_path, temperature):
    class Normal(Counting):
        def forward(self, views):
            generator = torch.Generator().manual_seed(len(views))
            return 1.5 * torch.randn(len(views), self.n_classes, generator=generator)

    teacher = Normal(n_classes=4000)
    kept = bank(tmp_path, teacher).recall(
        "crop", view=0, n_pictures=200, render=lambda indices: pictures(indices)
    )
    live = teacher(pictures(torch.arange(200)))
    top = live.topk(32, dim=1).indices
    shares = [
        (logits / temperature).softmax(1).gather(1, top).sum(1)
        for logits in (expand_answers(kept, temperature), live)
    ]
    torch.testing.assert_close(shares[0], shares[1], rtol=0.02, atol=0.001)


def test_a_teacher_that_contradicts_itself_is_not_taken_for_a_changed_one(tmp_path):
    class Random(Counting):
        def forward(self, views):
            return torch.randn(len(views), self.n_classes)

    one, some = bank(tmp_path, Random()), torch.arange(8)
    with pytest.raises(TeacherError, match=r"must say the same .* or pass --no-bank") as caught:
        one.check(recall(one)[some], pictures(some))
    assert "\n" not in str(caught.value)


def test_classes_that_are_ruled_out_leave_the_others_what_they_are(tmp_path):
    class Masked(Counting):
        def forward(self, views):
            return super().forward(views).index_fill(1, torch.arange(100, 200), -torch.inf)

    rows = recall(bank(tmp_path, Masked(n_classes=1500)))
    for temperature in (1.0, 4.0):
        assert torch.isfinite(expand_answers(rows, temperature)).all()
    assert torch.allclose(expand_answers(rows).exp().sum(1), torch.ones(N), atol=1e-4)


def test_a_bank_that_does_not_fit_the_disk_is_refused_before_it_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(100, 99, 1))
    with pytest.raises(TeacherError, match=r"must have room for .* MiB a view"):
        recall(bank(tmp_path, Counting()))
    assert not list(tmp_path.rglob("*.npy"))


def test_a_damaged_view_is_made_again(tmp_path):
    recall(bank(tmp_path, Counting()))
    (path,) = tmp_path.rglob("*.npy")
    path.write_bytes(path.read_bytes()[:50])
    teacher = Counting()
    assert len(recall(bank(tmp_path, teacher))) == N
    assert teacher.n_asked == N


@pytest.mark.parametrize("n_classes", [10, 1200])
def test_a_student_in_half_precision_gets_the_same_answers(tmp_path, n_classes):
    def recall_rows(folder, **options):
        teacher = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, n_classes))
        torch.nn.init.constant_(teacher[1].weight, 1 / 3)
        torch.nn.init.zeros_(teacher[1].bias)
        with torch.autocast("cpu", torch.bfloat16, **options), torch.no_grad():
            return recall(bank(folder, teacher))

    full = recall_rows(tmp_path / "full", enabled=False)
    assert torch.equal(recall_rows(tmp_path / "half"), full)
