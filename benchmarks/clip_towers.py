"""A light dual tower with a CLIP as its teacher, and without: what the teacher is worth.

No trained CLIP can be reached from a machine without network, so one is made first: a larger dual
tower, trained on many pictures of two garments of Fashion-MNIST side by side with the caption "a
bag left of a sneaker". The student learns from few other pairs of the kind, with
`autokd distill-clip`, beside its twin that learns from the pairs alone, for as many epochs. Figure:
mean recall at 1 of both directions on test pictures that nobody has learnt from, mean over seeds
and half of its 95 % interval; the gain is that of each seed's student over its own twin. A caption
that several pictures share is right for each of them.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from matched import describe_machine
from numpy.typing import NDArray
from output import print_figures, reserve_stdout
from PIL import Image

from autokd.config import build_tower_config
from autokd.distillation import (
    DualTower,
    Exam,
    ImageTower,
    PairBatch,
    Plan,
    TextTower,
    align,
    clip_loss,
    measure_retrieval,
)
from autokd.study import distill_clip
from autokd.study.progress import SearchProgress
from autokd.types import Recipe

SIDE = 56  # of a picture of two garments
N_DIMS = 64
NAMES = (
    "shirt", "trouser", "pullover", "dress", "coat", "sandal", "blouse", "sneaker", "bag", "boot"
)  # fmt: skip
WORDS = ("", "a", "left", "of", *NAMES)
CONTEXT = 6
_TEACHER = """
import torch
from clip_towers import build_teacher, tokenise

def load():
    towers = build_teacher()
    towers.load_state_dict(torch.load({weights!r}))
    towers.encode_image, towers.encode_text = towers.image, towers.text
    towers.logit_scale = towers.log_scale
    towers.preprocess_cfg = {{"size": {side}, "mean": [0.0] * 3, "std": [1.0] * 3}}
    return towers, tokenise
"""


def tokenise(texts: list[str]) -> torch.Tensor:
    """A token a word; words that no caption has are left out."""
    rows = [[WORDS.index(word) for word in text.split() if word in WORDS] for text in texts]
    return torch.tensor([(row + [0] * CONTEXT)[:CONTEXT] for row in rows])


def build_teacher() -> DualTower:
    """Ten times the student, and more."""
    import timm

    network = timm.create_model("resnet10t", num_classes=N_DIMS)
    text = TextTower(
        n_tokens=len(WORDS), padding=0, context=CONTEXT, width=256, layers=4, heads=4, n_dims=N_DIMS
    )
    return DualTower(ImageTower(network), text)


class Pool:
    """Pictures of two garments and their captions."""

    def __init__(self, images: NDArray[np.uint8], labels: NDArray[np.int64], *, seed: int) -> None:
        self._images, self._labels = torch.from_numpy(images), torch.from_numpy(labels)
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
        self.left, self.right = order[: len(order) // 2], order[len(order) // 2 :]

    @property
    def n_pictures(self) -> int:
        """A garment is on one of them."""
        return min(len(self.left), len(self.right))

    def draw(self, indices: torch.Tensor) -> torch.Tensor:
        """Side by side in the middle of a black square."""
        pictures = torch.zeros(len(indices), 1, SIDE, SIDE, dtype=torch.uint8)
        pictures[:, 0, 14:42, :28] = self._images[self.left[indices]]
        pictures[:, 0, 14:42, 28:] = self._images[self.right[indices]]
        return pictures.expand(-1, 3, -1, -1)

    def caption(self, index: int) -> str:
        """What is on a picture."""
        left, right = (NAMES[int(self._labels[side[index]])] for side in (self.left, self.right))
        return f"a {left} left of a {right}"

    def batch(self, indices: torch.Tensor, *, epoch: int, seed: int, is_taught: bool) -> PairBatch:
        """For the teacher's own training, which has no teacher."""
        del epoch, seed, is_taught
        meanings = self._labels[self.left[indices]] * 10 + self._labels[self.right[indices]]
        return PairBatch(
            pictures=self.draw(indices).float() / 255,
            tokens=tokenise([self.caption(int(index)) for index in indices]),
            meanings=meanings,
            teacher=None,
        )

    def examine(self, towers: DualTower) -> Exam:
        """On the last 500 of its own pictures, which is only good for a look."""
        some = torch.arange(self.n_pictures)[-500:]
        batch = self.batch(some, epoch=0, seed=0, is_taught=False)
        with torch.no_grad():
            images, texts = towers(batch.pictures, batch.tokens)
        found = measure_retrieval(
            images, texts, owners=torch.arange(len(some)), meanings=batch.meanings
        )
        same = batch.meanings[:, None] == batch.meanings[None, :]
        loss = clip_loss(images, texts, positives=same, scale=towers.scale.detach())
        return Exam(retrieval=found, loss=float(loss))


def make_teacher(pool: Pool, folder: Path, *, epochs: int) -> None:
    """Trains the CLIP and leaves a module `teacher` in the folder."""
    torch.manual_seed(0)
    towers = build_teacher()
    recipe = Recipe(optimiser="adamw", learning_rate=0.001, weight_decay=0.1)
    plan = Plan(epochs=epochs, batch_size=64, seed=0, device=torch.device("cpu"))

    def tell(row: object) -> None:
        say(f"teacher, not counted: {row}")

    align(towers, pool, losses=["contrastive"], recipe=recipe, plan=plan, on_epoch=tell)
    torch.save(towers.state_dict(), folder / "teacher.pt")
    text = _TEACHER.format(weights=str(folder / "teacher.pt"), side=SIDE)
    (folder / "teacher.py").write_text(text)


def write_pairs(pool: Pool, folder: Path, *, n: int) -> Path:
    """Some pictures of a pool as files, with their captions."""
    lines = ["image,caption"]
    for index, picture in enumerate(pool.draw(torch.arange(n))):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
        lines.append(f"{index}.png,{pool.caption(index)}")
    file = folder / "garments.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="fashion-mnist.npz")
    parser.add_argument("--quick", action="store_true", help="few pictures, 2 seeds, 5 epochs")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--pairs", type=int, default=2000, help="that the student has")
    parser.add_argument("--epochs", type=int, default=30, help="of the student and of its twin")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--teacher-pairs", type=int, default=12_000)
    parser.add_argument("--teacher-epochs", type=int, default=10)
    parser.add_argument("--image-tower", default="mobile:width=0.5")
    arguments = parser.parse_args()
    if not arguments.data.is_file():
        sys.exit(f"`data` must be a file, got {arguments.data}")
    if arguments.quick:
        arguments.pairs, arguments.epochs, arguments.seeds = 600, 5, 2
        arguments.teacher_pairs, arguments.teacher_epochs = 3000, 3
    return arguments


def main() -> None:
    """Makes the teacher and the pairs, distils, prints."""
    arguments, out = read_arguments(), reserve_stdout()
    with np.load(arguments.data) as arrays:
        images, labels = arrays["x_train"], arrays["y_train"].astype(np.int64)
    n = 2 * arguments.pairs  # garments of the student, none of which the teacher has seen
    with tempfile.TemporaryDirectory(prefix="autokd-clip-") as name:
        folder = Path(name)
        os.environ["AUTOKD_CACHE"] = str(folder / "cache")
        sys.path.insert(0, str(folder))
        theirs = slice(n, n + 2 * arguments.teacher_pairs)
        pool = Pool(images[theirs], labels[theirs], seed=1)
        make_teacher(pool, folder, epochs=arguments.teacher_epochs)
        file = write_pairs(Pool(images[:n], labels[:n], seed=2), folder, n=arguments.pairs)
        config = build_tower_config(
            flags={
                "pairs": file, "teacher": "python:teacher:load", "study": "clip", "device": "cpu",
                "image_tower": arguments.image_tower, "text_layers": 1, "text_width": 64,
                "text_heads": 2, "epochs": arguments.epochs, "batch_size": 64,
                "test_ratio": 0.25, "seeds": arguments.seeds, "runs_dir": folder / "runs",
            }
        )  # fmt: skip
        done = distill_clip(config, out=folder / "out", progress=SearchProgress())
    rows = {
        row.name: {
            "recall": row.recall.mean,
            "recall_ci95": row.recall.ci95,
            "n_params": row.n_params,
            "image_ms": row.image_ms,
            "text_ms": row.text_ms,
        }
        for row in (done.student, done.twin, done.teacher)
        if row is not None
    }
    figures = {
        **describe_machine(),
        **{key: value for key, value in vars(arguments).items() if key not in ("data", "json")},
        "n_pictures": done.n_pictures,
        "gain": None if done.gain is None else done.gain.mean,
        "gain_ci95": None if done.gain is None else done.gain.ci95,
        **rows,
    }
    print_figures(figures, as_json=arguments.json, out=out)


if __name__ == "__main__":
    main()
