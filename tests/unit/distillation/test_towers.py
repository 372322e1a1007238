import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from autokd.distillation import (
    DualTower,
    Engine,
    Exam,
    ImageTower,
    PairBatch,
    Plan,
    TeacherRows,
    TextTower,
    align,
    clip_loss,
    measure_retrieval,
)
from autokd.errors import DivergedError
from autokd.types import Recipe

N, DIMS, WORDS, PADDING = 24, 8, 40, 0
CPU = torch.device("cpu")


def build(seed=0):
    torch.manual_seed(seed)
    image = nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 4, 32), nn.ReLU(), nn.Linear(32, DIMS))
    text = TextTower(
        n_tokens=WORDS, padding=PADDING, context=5, width=16, layers=1, heads=2, n_dims=DIMS
    )
    return DualTower(ImageTower(image), text)


class Book:
    """Pictures that are told apart, each with a text of its own, and a teacher's rows."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.pictures = torch.rand(N, 3, 4, 4, generator=generator)
        self.tokens = torch.randint(1, WORDS, (N, 5), generator=generator)
        self.rows = F.normalize(torch.randn(N, DIMS, generator=generator), dim=-1)
        self.asked = []

    @property
    def n_pictures(self):
        return N

    def batch(self, indices, *, epoch, seed, is_taught):
        assert seed == 3
        self.asked.append((tuple(indices.tolist()), epoch))
        rows = self.rows[indices]
        return PairBatch(
            pictures=self.pictures[indices],
            tokens=self.tokens[indices],
            meanings=indices,
            teacher=TeacherRows(images=rows, texts=rows, scale=20.0) if is_taught else None,
        )

    def examine(self, towers):
        with torch.no_grad():
            images, texts = towers(self.pictures, self.tokens)
        right = torch.arange(N)
        found = measure_retrieval(images, texts, owners=right, meanings=right)
        loss = clip_loss(
            images, texts, positives=torch.eye(N, dtype=torch.bool), scale=towers.scale.detach()
        )
        return Exam(retrieval=found, loss=float(loss))


class Drawer:
    """A keeper in memory."""

    def __init__(self):
        self.kept = None

    def load(self):
        return self.kept

    def save(self, checkpoint):
        copied = {
            field.name: torch.utils._pytree.tree_map(
                lambda one: one.clone() if isinstance(one, torch.Tensor) else one,
                getattr(checkpoint, field.name),
            )
            for field in dataclasses.fields(checkpoint)
        }
        self.kept = type(checkpoint)(**copied)


def run(towers, *, losses=("contrastive",), epochs=4, rate=0.01, engine=None, **options):
    recipe = Recipe(optimiser="adamw", learning_rate=rate, weight_decay=0.1)
    plan = Plan(epochs=epochs, batch_size=8, seed=3, device=CPU, engine=engine)
    book = Book()
    return align(towers, book, losses=losses, recipe=recipe, plan=plan, **options), book


@pytest.mark.parametrize("loss", ["contrastive", "feature", "interactive", "relational"])
def test_each_loss_brings_pictures_and_texts_together(loss):
    towers = build()
    before = Book().examine(towers.eval()).retrieval.mean
    training, book = run(towers, losses=(loss,), epochs=25)
    assert training.val_recall > before + 0.3
    assert book.examine(towers).retrieval.mean == pytest.approx(training.val_recall)


def test_a_training_that_was_cut_off_goes_on_as_if_it_had_not_been():
    whole, cut, drawer = build(), build(), Drawer()
    losses = ("contrastive", "feature", "interactive", "relational")
    full, seen = run(whole, losses=losses)
    first, begun = run(cut, losses=losses, keeper=drawer, on_epoch=lambda row: row.epoch < 2)
    assert first.is_stopped
    assert len(first.curve) == 2
    again = build(seed=9)
    rest, ended = run(again, losses=losses, keeper=drawer)
    assert begun.asked + ended.asked == seen.asked
    assert [row.val_loss for row in rest.curve] == [row.val_loss for row in full.curve]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_a_training_keeps_to_the_number_type_that_it_was_begun_with():
    drawer, engine = Drawer(), Engine(device=CPU, is_bf16=True)
    first, _ = run(build(), keeper=drawer, engine=engine, on_epoch=lambda row: row.epoch < 2)
    rest, _ = run(build(), keeper=drawer)
    assert first.engine == rest.engine == "bf16 contiguous cpu x1"
    whole, _ = run(build(), engine=engine)
    plain, _ = run(build())
    assert plain.engine == "fp32 contiguous cpu x1"
    assert [row.val_loss for row in rest.curve] == [row.val_loss for row in whole.curve]
    assert rest.curve[-1].val_loss != plain.curve[-1].val_loss


def test_the_twin_sees_the_same_pictures_in_the_same_order():
    _, taught = run(build(), losses=("contrastive", "feature"), epochs=2)
    _, alone = run(build(), epochs=2)
    assert taught.asked == alone.asked


def test_who_diverges_says_so():
    towers = build()
    with torch.no_grad():
        towers.log_scale.fill_(float("nan"))
    with pytest.raises(DivergedError, match="loss is"):
        run(towers)


def test_filling_a_text_up_changes_nothing():
    text = build().text.eval()
    short = torch.tensor([[5, 7, 9]])
    long = torch.tensor([[5, 7, 9, PADDING, PADDING]])
    with torch.no_grad():
        assert torch.allclose(text(short), text(long), atol=1e-6)
        assert text(torch.full((1, 5), PADDING)).isfinite().all()


def test_embeddings_have_length_one_and_the_scale_a_limit():
    towers = build()
    images, texts = towers(torch.rand(3, 3, 4, 4), torch.randint(0, WORDS, (3, 5)))
    assert torch.allclose(images.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.allclose(texts.norm(dim=1), torch.ones(3), atol=1e-5)
    assert towers.scale.item() == pytest.approx(1 / 0.07, rel=1e-4)
    with torch.no_grad():
        towers.log_scale.fill_(10)
    towers.limit_scale()
    assert towers.scale.item() == pytest.approx(100)
