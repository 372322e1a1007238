"""A file of answers: read as it was written, or refused in one line, whatever is in it."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autokd.errors import MeetingError
from autokd.federation import Answers
from tests.unit.federation.charters import CHARTER, answer

WHOLE = answer("b").write(charter=CHARTER, number=0)


def read(path, content):
    file = path / "b.npz"
    file.write_bytes(content)
    return Answers.read(file, charter=CHARTER, number=0)


def pack(changes, *, is_packed=False):
    """The file with some of its arrays changed."""
    arrays = dict(np.load(io.BytesIO(WHOLE)))
    buffer = io.BytesIO()
    (np.savez_compressed if is_packed else np.savez)(buffer, **{**arrays, **changes})
    return buffer.getvalue()


def rewrite(name, content):
    """The file with the bytes of one of its arrays changed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as old, zipfile.ZipFile(buffer, "w") as new:
        for part in old.namelist():
            new.writestr(part, content if part == name else old.read(part))
    return buffer.getvalue()


def declare(shape):
    """An array's head that promises more than there is."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f2", "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def flag(content, *, offset, value):
    """The file with two bytes of every head in its directory changed."""
    mark, changed = b"PK\x01\x02", bytearray(content)
    at = content.find(mark)
    while at >= 0:
        changed[at + offset : at + offset + 2] = value.to_bytes(2, "little")
        at = content.find(mark, at + 1)
    return bytes(changed)


def test_answers_are_read_as_they_were_written(tmp_path):
    given = answer("a", seed=3, n_pictures=5)
    (tmp_path / "a.npz").write_bytes(given.write(charter=CHARTER, number=2))
    read = Answers.read(tmp_path / "a.npz", charter=CHARTER, number=2)
    assert (read.site, read.n_pictures) == ("a", 5)
    assert (read.logs == given.logs).all()


LOGS = answer("b").logs


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pack({"logs": LOGS[:1]}), r"float16 of \(2, 5, 3\) .*, got float16 of \(1, 5, 3\)"),
        (pack({"logs": LOGS.astype(np.float32)}), "got float32"),
        (pack({"logs": np.full_like(LOGS, np.inf)}), "must be finite"),
        (pack({"logs": np.array([object()], dtype=object)}), r"got object of \(1,\)"),
        (pack({"charter": np.str_("other")}), "must stand under the charter of this meeting"),
        (pack({"charter": np.str_("x" * 9000)}), "must hold one text as `charter`"),
        (pack({"site": np.str_("c")}), "must be of site b"),
        (pack({"site": np.array(["b", "b"])}), r"must hold one text as `site`, got <U1 of \(2,\)"),
        (pack({"site": np.int64(3)}), "must hold one text as `site`, got int64"),
        (pack({"number": np.int64(1)}), "must be of round 0"),
        (pack({"number": np.float64(0)}), "must hold one whole number as `number`, got float64"),
        (pack({"n_pictures": np.int64(0)}), "must come of at least one picture"),
        (pack({"n_pictures": np.float64(0.5)}), "whole number as `n_pictures`, got float64"),
        (pack({"n_pictures": np.float64(np.inf)}), "whole number as `n_pictures`, got float64"),
        (pack({"n_pictures": np.str_("many")}), "whole number as `n_pictures`, got <U4"),
        (pack({"n_pictures": np.array([1, 2])}), r"as `n_pictures`, got int64 of \(2,\)"),
        (pack({"logs": np.full((2, 5, 3), "x")}), "must be float16 of .* got <U1"),
        (pack({"more": np.zeros(2**20, np.uint8)}), "must be a whole npz file of at most"),
        (pack({}, is_packed=True), "must be a whole npz file that is not compressed"),
        (rewrite("logs.npy", declare((2**40, 2**10))), "must be float16 of"),
        (rewrite("logs.npy", declare((2, 5, 3))), "must be a whole npz file"),
        (rewrite("logs.npy", b"no array"), "must be a whole npz file"),
        (flag(WHOLE, offset=8, value=1), "must be a whole npz file, got RuntimeError"),  # encrypted
        (flag(WHOLE, offset=10, value=99), "that is not compressed, got a compressed one"),
        (WHOLE[:-20], "must be a whole npz file"),
        (WHOLE[: len(WHOLE) // 2], "must be a whole npz file"),
        (b"no answers", "must be a whole npz file"),
        (b"", "must be a whole npz file"),
        (WHOLE + b"x" * 2**20, "must be a whole npz file of at most .* got a longer one"),
    ],
)
def test_a_broken_file_is_refused_with_its_site(tmp_path, content, message):
    with pytest.raises(MeetingError, match=message) as caught:
        read(tmp_path, content)
    line = str(caught.value)
    assert line.startswith("answers of site `b` in round 0 must ")
    assert str(tmp_path / "b.npz") in line
    assert "\n" not in line


def accept_or_refuse(path, content):
    """Nothing but these two: one line, or answers that are what they must be."""
    try:
        found = read(path, content)
    except MeetingError:
        return
    assert found.logs.shape == CHARTER.answers_shape
    assert np.isfinite(found.logs).all()


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=8))
def test_whatever_is_in_a_file_it_is_answers_or_one_line(tmp_path_factory, changes):
    content = bytearray(WHOLE)
    for at, value in changes:
        content[at] = value
    accept_or_refuse(tmp_path_factory.getbasetemp(), bytes(content))
