import json

import numpy as np
import pytest
from PIL import Image

from autokd.data import load_named_pictures, load_pairs
from autokd.errors import DataError

OPTIONS = {"val_ratio": 0.2, "test_ratio": 0.2, "limit": None, "seed": 0}


@pytest.fixture
def folder(tmp_path):
    for number in range(20):
        Image.new("RGB", (10, 8), (12 * number, 0, 0)).save(tmp_path / f"{number}.png")
    return tmp_path


def write(folder, *, lines=None, name="pairs.csv", comma=","):
    rows = lines or [f"{n}.png{comma}shade {n}" for n in range(20)]
    file = folder / name
    file.write_text("\n".join([f"image{comma}caption", *rows]) + "\n")
    return file


def test_no_picture_is_in_two_splits_and_the_seed_decides(folder):
    file = write(folder)
    one, same = load_pairs(file, **OPTIONS), load_pairs(file, **OPTIONS)
    parts = np.concatenate([one.train, one.val, one.test])
    assert sorted(parts.tolist()) == list(range(20))
    assert (len(one.val), len(one.test)) == (4, 4)
    assert one.digest == same.digest
    other = load_pairs(file, **{**OPTIONS, "seed": 1})
    assert other.val.tolist() != one.val.tolist()
    assert other.digest != one.digest


def test_pictures_come_as_squares_in_the_order_asked_for(folder):
    pairs = load_pairs(write(folder), **OPTIONS)
    images = pairs.read(np.array([3, 1]), side=6)
    assert images.shape == (2, 3, 6, 6)
    assert images[:, 0, 0, 0].tolist() == [36, 12]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl"])
def test_each_kind_of_file_is_read_and_lines_of_a_picture_are_its_captions(folder, kind):
    rows = [(f"{n}.png", f"shade, {n}") for n in range(20)] + [("0.png", "black")]
    file = folder / f"pairs.{kind}"
    if kind == "jsonl":
        file.write_text("".join(json.dumps({"image": i, "caption": c}) + "\n" for i, c in rows))
    else:
        comma = "\t" if kind == "tsv" else ","
        file = write(
            folder, lines=[f'{i}{comma}"{c}"' for i, c in rows], name=file.name, comma=comma
        )
    pairs = load_pairs(file, **OPTIONS)
    assert pairs.captions[0] == ("shade, 0", "black")
    assert len(pairs.paths) == 20


def test_a_quotation_mark_in_a_line_of_tabs_hides_no_other_line(folder):
    said = ['"No!" he said', '"Open', 'it says "stop"', '"a ""whole"" one"', '"']
    rows = [f"{n}.png\t{text}" for n, text in enumerate(said)]
    rows += [f"{n}.png\tshade {n}" for n in range(len(said), 20)]
    pairs = load_pairs(write(folder, lines=rows, name="p.tsv", comma="\t"), **OPTIONS)
    assert len(pairs.paths) == 20
    assert pairs.captions[:5] == (
        ('"No!" he said',), ('"Open',), ('it says "stop"',), ('a "whole" one',), ('"',),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "name", "said"),
    [
        (['0.png,"No!" he said', "1.png,b"], "p.csv", "in what begins in line 2"),
        (["0.png,a", '1.png,"Open', "2.png,c"], "p.csv", "in what begins in line 3"),
        (['0.png,"Open', '1.png,it says stop"'], "p.csv", "a line break between quotation marks"),
        (['"0.png,a', '1.png",b'], "p.csv", "a line break between quotation marks in line 2"),
        (
            ["0.png,a dog, running"],
            "p.csv",
            "must have 2 cells in each line as in its first, got 3",
        ),
        (['0.png\t"a\tb"'], "p.tsv", "got 3 in line 2; take the tab"),
    ],
)
def test_a_line_that_would_be_read_wrong_is_refused(folder, lines, name, said):
    comma = "\t" if name.endswith("tsv") else ","
    with pytest.raises(DataError, match=r"^`--pairs") as caught:
        load_pairs(write(folder, lines=lines, name=name, comma=comma), **OPTIONS)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_empty_lines_and_empty_cells_at_the_end_are_left_alone(folder):
    lines = [f'{n}.png,"a, {n}",' if n % 2 else f'{n}.png,"a, {n}"\n' for n in range(20)]
    assert load_pairs(write(folder, lines=lines), **OPTIONS).captions[1] == ("a, 1",)


def test_a_limit_keeps_what_a_larger_one_keeps(folder):
    file = write(folder)
    kept = {}
    for limit in (10, 15):
        one = load_pairs(file, **{**OPTIONS, "limit": limit})
        kept[limit] = set(np.concatenate([one.train, one.val, one.test]).tolist())
        assert len(kept[limit]) == limit
    assert kept[10] < kept[15]


@pytest.mark.parametrize(
    ("lines", "name", "said"),
    [
        (["0.png,"], "p.csv", "got no caption in line 2"),
        (["x.png,a"], "p.csv", "1 that are not, the first being"),
        (["0.png,a", "1.png,b"], "p.csv", "must name 6 pictures or more, got 2"),
        (["0.png,a"], "p.txt", "must be a file that ends with one of .csv"),
    ],
)
def test_what_is_wrong_with_pairs_is_one_line(folder, lines, name, said):
    with pytest.raises(DataError, match=r"^`--pairs") as caught:
        load_pairs(write(folder, lines=lines, name=name), **OPTIONS)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_picture_is_one_however_it_is_spelt_and_a_list_is_several_captions(folder):
    file = folder / "pairs.jsonl"
    rows = [{"image": f"{n}.png", "caption": ["a", "b"]} for n in range(8)]
    rows.append({"image": str(folder / "0.png"), "caption": "c"})
    rows.append({"image": f"../{folder.name}/0.png", "caption": "d"})
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    pairs = load_pairs(file, **OPTIONS)
    assert len(pairs.paths) == 8
    assert pairs.captions[0] == ("a", "b", "c", "d")
    file.write_text(json.dumps({"image": "0.png", "caption": 3}) + "\n")
    with pytest.raises(DataError, match="got no caption in line 1"):
        load_pairs(file, **OPTIONS)


def test_a_column_that_lacks_and_a_file_that_is_not_there(folder):
    file = folder / "pairs.csv"
    file.write_text("file,text\n0.png,a\n")
    with pytest.raises(DataError, match="got none called 'image'"):
        load_pairs(file, **OPTIONS)
    with pytest.raises(DataError, match="No such file"):
        load_pairs(folder / "none.csv", **OPTIONS)
    broken = folder / "pairs.jsonl"
    broken.write_text("{")
    with pytest.raises(DataError, match="must be readable"):
        load_pairs(broken, **OPTIONS)


def test_a_broken_picture_is_named(folder):
    (folder / "3.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"1 \(5.0%\): .*3\.png"):
        load_pairs(write(folder), **OPTIONS)


def test_named_pictures_take_their_names_from_the_folders(tmp_path):
    for name in ("ankle_boot", "bag"):
        (tmp_path / name).mkdir()
        Image.new("L", (5, 5), 9).save(tmp_path / name / "a.png")
    found = load_named_pictures(tmp_path, option="--zero-shot")
    assert found.classes == ("ankle boot", "bag")
    assert found.labels.tolist() == [0, 1]
    assert found.read(side=4).shape == (2, 3, 4, 4)
    with pytest.raises(DataError, match=r"`--zero-shot .*no such folder"):
        load_named_pictures(tmp_path / "none", option="--zero-shot")
    with pytest.raises(DataError, match="two sub-folders with pictures or more, got 0"):
        load_named_pictures(tmp_path / "bag", option="--zero-shot")
