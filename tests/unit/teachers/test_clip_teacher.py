from pathlib import Path

import pytest
import torch

from autokd.errors import TeacherError
from autokd.exporters.tokeniser_file import write_tokeniser
from autokd.teachers import load_clip
from tests import tiles

pytest.importorskip("open_clip", reason="needs open_clip: pip install autokd[clip]")

TEXTS = ["", "a dog", "It's  a CAT!", "a very long text that does not fit " * 5, "naïve café №5"]


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A model of open_clip in a folder, as its hub has them."""
    folder = tmp_path_factory.mktemp("clip")
    return folder, tiles.write_open_clip(folder)


def test_a_model_of_open_clip_embeds_as_it_does_there(local):
    folder, model = local
    teacher = load_clip(f"clip:local-dir:{folder}", weights=None, pretrained=None)
    assert (teacher.side, teacher.n_dims, teacher.n_tokens, teacher.padding) == (32, 16, 49408, 0)
    assert teacher.preprocessing.mean == (0.4,) * 3
    assert teacher.scale == pytest.approx(1 / 0.07, rel=1e-4)
    pictures, tokens = torch.rand(2, 3, 32, 32), teacher.tokenise(TEXTS)
    assert tokens.shape == (5, 20)
    with torch.no_grad():
        images = model.eval().encode_image((pictures - 0.4) / 0.3, normalize=True)
        assert torch.allclose(teacher.image(pictures), images, atol=1e-5)
        assert torch.allclose(
            teacher.text(tokens), model.encode_text(tokens, normalize=True), atol=1e-5
        )


def test_the_digest_is_that_of_the_weights(local, tmp_path):
    folder, model = local
    name = f"clip:local-dir:{folder}"
    one, same = (load_clip(name, weights=None, pretrained=None).digest for _ in range(2))
    assert one == same
    changed = {key: value + 0.01 for key, value in model.state_dict().items()}
    (tmp_path / "open_clip_config.json").write_text((folder / "open_clip_config.json").read_text())
    torch.save(changed, tmp_path / "open_clip_pytorch_model.bin")
    other = load_clip(f"clip:local-dir:{tmp_path}", weights=None, pretrained=None)
    assert other.digest != one


def test_its_tokeniser_goes_into_a_file_that_reads_texts_alike(local, tmp_path):
    tokenizers = pytest.importorskip(
        "tokenizers", reason="needs tokenizers: pip install autokd[clip]"
    )
    teacher = load_clip(f"clip:local-dir:{local[0]}", weights=None, pretrained=None)
    texts = [*TEXTS, *(f"a {name} tile, {n}% of it" for n, name in enumerate(tiles.COLOURS))]
    card = {"context": 20, "padding": 0}
    path = tmp_path / "tokenizer.json"
    fault = write_tokeniser(
        teacher.tokeniser, path, texts=texts, tokens=teacher.tokenise(texts), card=card
    )
    assert not fault
    ids = tokenizers.Tokenizer.from_file(str(path)).encode("a dog").ids
    assert ids == teacher.tokenise(["a dog"])[0, : len(ids)].tolist()
    wrong = teacher.tokenise(texts).roll(1, 0)
    fault = write_tokeniser(teacher.tokeniser, path, texts=texts, tokens=wrong, card=card)
    assert "in another way" in fault


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("clip:ViT-B-31", {}, "must be a model of open_clip; did you mean ViT-B-32"),
        ("clip:ViT-B-32", {}, "must have weights, got none; pass --teacher-weights FILE"),
        ("clip:ViT-B-32", {"pretrained": "none"}, "`--teacher-pretrained` must be one of openai"),
        ("clip:ViT-B-32", {"weights": "no.pt"}, "`--teacher-weights` must be a file, got no.pt"),
        ("clip:local-dir:none", {}, "`--teacher` must be loadable"),
        ("clip:local-dir:x", {"pretrained": "a"}, "which brings its own, got a"),
        ("python:tests.tiles:load", {"pretrained": "x"}, "must be left to python:tests.tiles"),
        ("clip:", {}, "`--teacher` must be clip:NAME or python:module:function, got clip:"),
    ],
)
def test_what_is_no_clip_is_refused_in_a_line(name, options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"weights": None, "pretrained": None, **options}
    if given["weights"]:
        given["weights"] = Path(given["weights"])
    with pytest.raises(TeacherError, match=r"^[^\n]*$") as caught:
        load_clip(name, **given)
    assert said in str(caught.value)


def test_a_folder_without_weights_is_refused(local, tmp_path):
    (tmp_path / "open_clip_config.json").write_text(
        (local[0] / "open_clip_config.json").read_text()
    )
    with pytest.raises(TeacherError, match="`--teacher` must be loadable"):
        load_clip(f"clip:local-dir:{tmp_path}", weights=None, pretrained=None)


def test_an_exclamation_mark_within_a_text_does_not_end_it(local):
    teacher = load_clip(f"clip:local-dir:{local[0]}", weights=None, pretrained=None)
    tokens = teacher.tokenise(["", "a dog", "wow !(2020)"])
    ends = teacher.count_tokens(tokens) - 1
    assert tokens.gather(1, ends[:, None]).flatten().tolist() == [49407] * 3


def test_weights_that_do_not_fit_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pt")
    with pytest.raises(TeacherError, match=r"must be loadable, got .* from clip:ViT-B-32"):
        load_clip("clip:ViT-B-32", weights=tmp_path / "w.pt", pretrained=None)
