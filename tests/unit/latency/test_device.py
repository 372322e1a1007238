import json

import pytest

from autokd.latency import device
from autokd.latency.reference import recall_quiet_ms
from autokd.types import is_same_device

OLD, NEW = "board x4, Linux x86_64 [01234567]", "board x4, Linux x86_64 [0123456789]"


@pytest.fixture
def fingerprint(tmp_path, monkeypatch):
    def fingerprint(flags, model="board"):
        (tmp_path / "cpuinfo").write_text(f"model name : {model}\nflags : {flags}\n")
        monkeypatch.setattr(device, "Path", lambda _: tmp_path / "cpuinfo")
        return device.device_fingerprint.__wrapped__()

    return fingerprint


def test_a_new_kernel_or_microcode_leaves_the_device_what_it_is(fingerprint):
    before = fingerprint("fpu sse4_2 avx avx2 fma")
    assert before == fingerprint("fma fpu avx avx2 sse4_2 md_clear ibrs_enhanced")
    assert before != fingerprint("fpu sse4_2 avx avx2 fma avx512f avx512_vnni")
    assert before != fingerprint("fpu sse4_2 avx avx2 fma", model="other board")


@pytest.mark.parametrize(
    ("known", "now", "is_same"),
    [
        (NEW, NEW, True),
        (OLD, NEW, True),
        (f"card, {OLD}", f"card, {NEW}", True),
        (OLD.replace("x4", "x8"), NEW, False),
        (NEW.replace("01", "99"), NEW, False),
        (f"card, {OLD}", NEW, False),
    ],
)
def test_the_hash_of_an_older_version_is_not_looked_at(known, now, is_same):
    assert is_same_device(known, now) == is_same


def test_the_quiet_time_that_an_older_version_has_kept_is_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOKD_CACHE", str(tmp_path / "cache"))
    home = tmp_path / "runs"
    assert recall_quiet_ms(lambda: 1.0, home=home) == 1.0
    (file,) = home.glob("reference-*.json")
    (kept,) = (tmp_path / "cache/latency").glob("reference-*.json")
    kept.unlink()
    values = json.loads(file.read_text())
    older = {**values, "of": values["of"].replace(device.device_fingerprint()[-11:], "01234567]")}
    file.rename(home / "reference-older.json")
    (home / "reference-older.json").write_text(json.dumps(older))
    assert recall_quiet_ms(lambda: 2.0, home=home) == 1.0
    (home / "reference-older.json").write_text(json.dumps({**older, "of": "another"}))
    file.unlink(missing_ok=True)
    for path in (tmp_path / "cache/latency").glob("*.json"):
        path.unlink()
    assert recall_quiet_ms(lambda: 2.0, home=home) == 2.0
