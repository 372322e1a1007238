import json
import os

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


def test_arm_processors_have_no_name_but_are_told_apart(tmp_path, monkeypatch):
    def fingerprint(*parts, features="fp asimd", board=""):
        cores = [
            f"processor : {n}\nFeatures : {features}\nCPU implementer : 0x41\n"
            f"CPU architecture: 8\nCPU variant : 0x0\nCPU part : {part}\n"
            for n, part in enumerate(parts)
        ]
        (tmp_path / "cpuinfo").write_text("\n".join([*cores, f"Model : {board}" if board else ""]))
        monkeypatch.setattr(device, "Path", lambda _: tmp_path / "cpuinfo")
        return device.device_fingerprint.__wrapped__()

    found = {
        fingerprint("0xd0c"), fingerprint("0xd40"), fingerprint("0xd40", features="fp asimd sve"),
        fingerprint("0xd0c", "0xd40"), fingerprint("0xd0c", board="Board 4"),
    }  # fmt: skip
    assert len(found) == 5
    assert fingerprint("0xd40", "0xd0c", board="Board 4").startswith(
        "Board 4 ARM 0x41/8/0x0/0xd0c+0x41/8/0x0/0xd40 x"
    )


@pytest.mark.parametrize(
    ("visible", "found"),
    [(None, "card 0, 1.2"), ("1,0", "card 1, 1.2"), ("MIG-7", "card 0, 1.2")],
)
def test_the_gpu_is_the_one_that_is_left_to_us(tmp_path, monkeypatch, visible, found):
    program = tmp_path / "nvidia-smi"
    program.write_text(
        "#!/bin/sh\ncase \"$4\" in\n''|0) echo 'card 0, 1.2'; echo 'card 1, 1.2';;\n"
        "1) echo 'card 1, 1.2';;\n*) echo 'No devices were found'; exit 6;;\nesac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device.accelerator_name.__wrapped__() == found


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
