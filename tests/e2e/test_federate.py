"""Two sites in processes of their own, which share a folder and nothing else."""

import json
import time

import numpy as np
import pytest
from sklearn.datasets import load_digits

N_SITE, N_PUBLIC = 240, 150


def write_shards(folder):
    """Site `a` has more of the low digits, `b` more of the high ones; the public have no labels."""
    pixels, labels = load_digits(return_X_y=True)
    pixels = (pixels.reshape(-1, 8, 8) * 15).astype(np.uint8)
    order = np.random.default_rng(0).permutation(len(labels))
    np.savez(folder / "public.npz", x=pixels[order[:N_PUBLIC]])
    rest = order[N_PUBLIC:]
    classes = np.array([str(digit) for digit in range(10)])
    for site, is_mine in {"a": labels < 6, "b": labels > 3}.items():
        own = [index for index in rest if is_mine[index]][: N_SITE // 2]
        more = [index for index in rest if index not in own][: N_SITE // 2]
        rest = np.array([index for index in rest if index not in {*own, *more}])
        picked = np.array([*own, *more])
        np.savez(
            folder / f"{site}.npz", x_train=pixels[picked], y_train=labels[picked], classes=classes
        )


def words(name, **options):
    values = {
        "site": name, "meeting": "meeting", "data": f"npz:{name}.npz", "public": "npz:public.npz",
        "student": "mobile:width=0.5,depth=1" if name == "a" else "resnet:depth=1",
        "rounds": 2, "epochs": 1, "first-epochs": 1, "sites": "a,b", "wait": "150s", "views": 2,
        "runs-dir": f"runs-{name}", "study": name, "out": f"out-{name}", **options,
    }  # fmt: skip
    flags = [text for name, value in values.items() for text in (f"--{name}", value)]
    return ["federate", *flags, "--no-register", "--json"]


@pytest.mark.timeout(280)
def test_two_sites_learn_from_each_other_though_one_is_killed(start, tmp_path):
    write_shards(tmp_path)
    a, b = start(tmp_path, *words("a")), start(tmp_path, *words("b"))
    said = tmp_path / "meeting/round-00/b.npz"
    end = time.monotonic() + 200
    while not said.exists():
        assert b.poll() is None, b.communicate()
        assert time.monotonic() < end, "it never came so far"
        time.sleep(0.02)
    b.kill()
    b.communicate()
    first = said.read_bytes()
    b = start(tmp_path, *words("b"))
    told = {}
    for site, process in (("a", a), ("b", b)):
        out, err = process.communicate(timeout=250)
        assert process.returncode == 0, err
        told[site] = json.loads(out)
    assert said.read_bytes() == first
    for site, values in told.items():
        assert [one["heard"] for one in values["rounds"]] == [[], ["a", "b"], ["a", "b"]]
        assert values["gain"] == values["test_accuracy"] - values["alone_test_accuracy"]
        assert values["export"]["top1_agreement"] >= 0.99
        assert values["export"]["latency_ms"] > 0
        assert (tmp_path / f"out-{site}/model.onnx").exists()
    files = {path for path in (tmp_path / "meeting").rglob("*") if path.is_file()}
    assert {str(path.relative_to(tmp_path / "meeting")) for path in files} == {
        "charter.json", "sites/a.json", "sites/b.json",
        *(f"round-0{number}/{site}.npz" for number in (0, 1) for site in "ab"),
    }  # fmt: skip
    for number in (0, 1):
        both = [
            np.load(tmp_path / f"runs-{site}/studies/{site}/rounds/0{number}.consensus.npz")[
                "logits"
            ]
            for site in "ab"
        ]
        assert (both[0] == both[1]).all(), "each site finds the same consensus"
        for site in "ab":
            said = np.load(tmp_path / f"meeting/round-0{number}/{site}.npz")
            assert set(said.files) == {"logs", "n_pictures", "number", "site", "charter"}
            assert said["logs"].shape == (2, N_PUBLIC, 10)


def test_a_site_that_differs_is_one_line_and_exit_code_2(invoke, tmp_path):
    write_shards(tmp_path)
    code, output = invoke(*words("a", wait="1s"))
    assert code == 1
    assert "MeetingError: `--wait` must be long enough for 2 sites to come, got 1" in output
    for options, message in (
        ({"rounds": 3}, "`--rounds` must be 2 as in the charter of the meeting, got 3"),
        ({"public-limit": 9}, "of the `--public` pictures must be 150, 1, 8, 8 as in the charter"),
        ({"data": "digits", "image-size": 12, "train-limit": 200}, "`--public` pictures must be"),
        ({"site": "c"}, "`--site` must be one of a, b as in the charter of the meeting, got c"),
        ({"site": "a"}, "`--site` must be a name of its own, got a"),
        ({"sites": "a"}, "`--sites` must name two or more sites, each once"),
        ({"vote": "loudest"}, "`--vote` must be 'mean'"),
    ):
        code, output = invoke(*words("b", **options))
        assert code == 2, output
        assert message in output
        assert "Traceback" not in output
        assert not list(tmp_path.glob("runs-b/studies/*/settings.json"))
    code, output = invoke("federate", "--student", "mobile")
    assert code == 2
    assert "`--site` must be given, got nothing" in output
