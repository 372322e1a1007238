"""A teacher from another domain: what its students reach as it is, and with each remedy.

The teacher is a CIFAR-10 checkpoint trained on the lossless pictures (akamaster/
pytorch_resnet_cifar10, option-A shortcuts), the data the same pictures as lossy JPEG files, on
which it is ten points below its best. Part of the training pictures loses its labels. Students
are the default one of a space, with the same seeds and as many steps.
"""

import argparse
import dataclasses
import math
import os
import sys
import tempfile
from pathlib import Path

from matched import Lesson, describe_machine, gain, open_bench
from output import print_figures, reserve_stdout

from autokd.study.finalists import estimate
from autokd.types import Recipe

BASE = Recipe(alpha=0.9, alpha_end=0.9, temperature=4.0, augmentation="flip_crop")
PLAIN, UNADAPTED = "no distillation", "unadapted teacher"
LESSONS = {
    PLAIN: dataclasses.replace(BASE, alpha=0.0, alpha_end=0.0),
    UNADAPTED: BASE,
    "teacher alone": dataclasses.replace(BASE, alpha=1.0, alpha_end=1.0),
    "less of the teacher (alpha 0.5)": dataclasses.replace(BASE, alpha=0.5, alpha_end=0.5),
    "confidence over 0.5": dataclasses.replace(BASE, teacher_confidence=0.5),
    "confidence over 0.9": dataclasses.replace(BASE, teacher_confidence=0.9),
    "adaptive temperature": dataclasses.replace(BASE, is_adaptive=True),
    "adaptive, confidence over 0.5": dataclasses.replace(
        BASE, is_adaptive=True, teacher_confidence=0.5
    ),
}


def build_teacher_module(weights: Path, folder: Path) -> str:
    """A module in a folder that builds the checkpoint's network; gives `--teacher`."""
    source = Path(__file__).with_name("cifar_resnet.py").read_text(encoding="utf-8")
    (folder / "shifted_teacher.py").write_text(
        f"{source}\n\ndef build():\n    return load_checkpoint({str(weights.resolve())!r})\n",
        encoding="utf-8",
    )
    sys.path.insert(0, str(folder))
    return "python:shifted_teacher:build"


def hide_labels(pictures: Path, folder: Path, *, share: float) -> tuple[Path, Path]:
    """Two folders of links: pictures with their labels, and the others without."""
    labelled, bare = folder / "labelled", folder / "bare"
    bare.mkdir(parents=True)
    for source in sorted((pictures / "train").iterdir()):
        files = sorted(source.iterdir())
        n_hidden = round(len(files) * share)
        target = labelled / "train" / source.name
        target.mkdir(parents=True)
        for file in files[n_hidden:]:
            os.link(file, target / file.name)
        for file in files[:n_hidden]:
            os.link(file, bare / f"{source.name}-{file.name}")
    (labelled / "test").symlink_to((pictures / "test").resolve())
    return labelled, bare


def main() -> None:
    """Reads the arguments, trains, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", type=Path, help="folder with train/ and test/ of CIFAR-10")
    parser.add_argument("weights", type=Path, help="resnet20-12fca82f.th")
    parser.add_argument(
        "--quick", action="store_true", help="500 + 500 pictures, 2 epochs, 2 seeds"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--train-limit", type=int, default=5000, help="pictures with labels")
    parser.add_argument("--unlabelled-limit", type=int, default=10_000)
    parser.add_argument("--hidden", type=float, default=0.5, help="share that loses its labels")
    parser.add_argument("--space", default="mobile")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    arguments, out = parser.parse_args(), reserve_stdout()
    for path in (arguments.pictures / "train", arguments.pictures / "test", arguments.weights):
        if not path.exists():
            sys.exit(f"{path} must exist")
    if arguments.quick:
        arguments.train_limit, arguments.unlabelled_limit = 500, 500
        arguments.epochs, arguments.seeds = 2, 2
    with tempfile.TemporaryDirectory(dir=arguments.pictures.parent) as name:
        labelled, bare = hide_labels(arguments.pictures, Path(name), share=arguments.hidden)
        bench = open_bench(
            arguments.space,
            device=arguments.device,
            batch_size=arguments.batch_size,
            data=f"folder:{labelled}",
            train_limit=arguments.train_limit,
            unlabelled=bare,
            unlabelled_limit=arguments.unlabelled_limit,
            teacher=build_teacher_module(arguments.weights, Path(name)),
            teacher_mean=(0.485, 0.456, 0.406),
            teacher_std=(0.229, 0.224, 0.225),
        )
        n_train = len(bench.data.train_images)
        n_all = n_train + bench.data.card.n_unlabelled
        lessons = [
            Lesson(
                name=title,
                recipe=recipe,
                teacher=None if title == PLAIN else bench.faculty.teachers["teacher"],
                sample=bench.space.complete({}),
                # As many steps with fewer pictures: the baseline is not trained shorter.
                epochs=math.ceil(arguments.epochs * n_all / n_train)
                if title == PLAIN
                else arguments.epochs,
            )
            for title, recipe in LESSONS.items()
        ]
        outcomes = bench.run(lessons, seeds=arguments.seeds)
    rows = {}
    for title, found in outcomes.items():
        accuracy = estimate([row.test_accuracy for row in found])
        rows[title] = {
            "test_accuracy": accuracy.mean,
            "test_accuracy_ci95": accuracy.ci95,
            "n": accuracy.n,
            "engine": found[0].engine,
            **gain(found, outcomes[PLAIN]),
            "against_unadapted": gain(found, outcomes[UNADAPTED])["gain"],
        }
    print_figures(
        {
            **describe_machine(arguments.device),
            "teacher_val_accuracy": bench.faculty.card.val_accuracy,
            "n_train": len(bench.data.train_images),
            "n_unlabelled": bench.data.card.n_unlabelled,
            "epochs": arguments.epochs,
            "rows": rows,
        },
        as_json=arguments.json,
        out=out,
    )


if __name__ == "__main__":
    main()
