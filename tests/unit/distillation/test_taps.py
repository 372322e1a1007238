import copy

import pytest
import torch
from torch import nn

from autokd.distillation.feature_reader import FeatureReader
from autokd.distillation.taps import Tap, find_embedding, find_taps, match_taps, named_taps
from autokd.errors import ConfigError
from tests.unit.distillation.feature_networks import BUILDERS, SmallCnn, build, draw_pictures


def tap(path: str, side: int, depth: float = 0.5) -> Tap:
    return Tap(path=path, channels=4, height=side, width=side, layout="nchw", depth=depth)


def paths(pairs) -> list[tuple[str, str]]:
    return [(student.path, teacher.path) for student, teacher in pairs]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cnn", [("stages.0", 16), ("stages.1", 8), ("stages", 4)]),
        ("resnet18", [("relu", 16), ("layer1", 8), ("layer2", 4), ("layer3", 2)]),
        ("mobile", [("stages.0", 32), ("stages.1", 16), ("stages", 8)]),
        ("vit", [("blocks.0", 8), ("blocks.1", 8), ("blocks.3", 8)]),
        ("small_vit", [("encoders.0", 8), ("encoders.1", 8), ("encoders.3", 8)]),
        ("swin", [("layers.0.blocks.0", 16), ("norm", 8)]),
    ],
)
def test_taps_are_the_ends_of_stages_and_spaced_blocks(name, expected):
    taps = find_taps(build(name), draw_pictures())
    assert [(tap.path, tap.height) for tap in taps] == expected
    assert [tap.width for tap in taps] == [tap.height for tap in taps]
    assert [tap.depth for tap in taps] == sorted(tap.depth for tap in taps)


@pytest.mark.parametrize(
    ("name", "layout", "n_prefix"), [("swin", "nhwc", 0), ("vit", "tokens", 1)]
)
def test_a_tap_says_how_the_map_lies(name, layout, n_prefix):
    found = find_taps(build(name), draw_pictures())[-1]
    assert (found.layout, found.n_prefix, found.channels) == (layout, n_prefix, 48)


@pytest.mark.parametrize("n_prefix", [0, 1, 2])
def test_tokens_fold_row_by_row_after_their_prefix(n_prefix):
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.project = nn.Linear(3, 5)

        def forward(self, pictures):
            tokens = pictures.flatten(2).transpose(1, 2)
            prefix = torch.full((len(tokens), n_prefix, 3), 9.0)
            return self.project(torch.cat([prefix, tokens], 1)).mean(1)

    network, pictures = Tokens(), draw_pictures(side=4)
    (found,) = find_taps(network, pictures)
    assert (found.n_prefix, found.size) == (n_prefix, (4, 4))
    with FeatureReader(network, [found]) as reader:
        network(pictures)
        (read,) = reader.features
    by_hand = network.project(pictures.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
    torch.testing.assert_close(read, by_hand)


def test_oblong_pictures_have_oblong_maps():
    taps = find_taps(build("cnn"), torch.rand(2, 3, 16, 32))
    assert [tap.size for tap in taps] == [(8, 16), (4, 8), (2, 4)]


@pytest.mark.parametrize("name", list(BUILDERS))
def test_finding_taps_leaves_no_trace(name):
    network, pictures = build(name).train(), draw_pictures()
    next(network.children()).eval()
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    random = torch.random.get_rng_state()
    assert find_taps(network, pictures) == find_taps(network, pictures)
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.random.get_rng_state(), random)
    assert not any(module._forward_hooks for module in network.modules())
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_failing_network_gets_its_modes_back():
    network = build("cnn").train()
    with pytest.raises(RuntimeError):
        find_taps(network, torch.rand(2, 1, 32, 32))
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())


@pytest.mark.parametrize("name", list(BUILDERS))
def test_the_embedding_is_what_the_last_layer_is_fed_with(name):
    network, pictures = build(name).eval(), draw_pictures()
    found = find_embedding(network, pictures)
    with FeatureReader(network, [found]) as reader:
        logits = network(pictures)
        (read,) = reader.features
    assert read.shape == (4, found.channels)
    torch.testing.assert_close(network.get_submodule(found.path)(read), logits)


def test_the_embedding_before_a_convolution_is_averaged_over_places():
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.Conv2d(6, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    found = find_embedding(network, draw_pictures())
    assert (found.path, found.channels) == ("1", 6)
    with FeatureReader(network, [found]) as reader:
        network(draw_pictures())
        assert reader.features[0].shape == (4, 6)


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_a_network_that_is_one_piece_shows_nothing():
    network, pictures = build("cnn").eval(), draw_pictures()
    script = torch.jit.trace(network, pictures)
    program = torch.export.export(network, (pictures,)).module()
    for piece in (script, program):
        assert find_taps(piece, pictures) == ()
        assert find_embedding(piece, pictures) is None


def test_equal_resolutions_are_paired_from_the_deepest():
    student = [tap("s16", 16), tap("s8", 8), tap("s4", 4)]
    teacher = [tap("t32", 32), tap("t8a", 8), tap("t8b", 8), tap("t4", 4)]
    assert paths(match_taps(student, teacher)) == [("s8", "t8b"), ("s4", "t4")]


def test_other_resolutions_are_paired_by_their_place():
    student = [tap("a", 12), tap("b", 6)]
    teacher = [tap("1", 32), tap("2", 16), tap("3", 8), tap("4", 4)]
    assert paths(match_taps(student, teacher)) == [("a", "2"), ("b", "4")]
    assert paths(match_taps(teacher, student)) == [("2", "a"), ("4", "b")]


def test_too_few_equal_resolutions_give_way_to_places():
    student = [tap("s16", 16), tap("s8", 8), tap("s4", 4)]
    teacher = [tap("t1", 8), tap("t2", 8)]
    assert paths(match_taps(student, teacher)) == [("s8", "t2")]
    assert paths(match_taps(student, teacher, at_least=2)) == [("s16", "t1"), ("s4", "t2")]


def test_there_is_a_pair_wherever_both_sides_have_a_tap():
    assert len(match_taps([tap("s", 3)], [tap("t", 7)])) == 1
    assert match_taps([], [tap("t", 7)]) == ()


def test_named_taps_come_in_the_order_of_their_names():
    taps = named_taps(
        build("resnet18"), draw_pictures(), ["layer2", "layer1.0"], option="--teacher-tap"
    )
    assert [(tap.path, tap.height) for tap in taps] == [("layer2", 4), ("layer1.0", 8)]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("layr2", "`--teacher-tap` must name a module of the network, got layr2; did you mean lay"),
        ("fc", "`--teacher-tap` must name a module that gives a map, got fc, which gives [4, 10]"),
        ("avgpool", ""),
        ("", "`--teacher-tap` must name a module of the network"),
    ],
)  # fmt: skip
def test_a_wrong_name_is_one_line(path, message):
    network = build("resnet18")
    if path == "avgpool":  # a map of one place may be asked for
        assert named_taps(network, draw_pictures(), [path], option="--teacher-tap")
        return
    with pytest.raises(ConfigError) as caught:
        named_taps(network, draw_pictures(), [path], option="--teacher-tap")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_does_not_run_is_no_tap():
    network = SmallCnn()
    network.spare = nn.Conv2d(3, 3, 1)
    with pytest.raises(ConfigError, match=r"`--student-tap` .* spare, which gives no tensor"):
        named_taps(network, draw_pictures(), ["spare"], option="--student-tap")


@pytest.mark.parametrize("name", list(BUILDERS))
def test_a_reader_holds_maps_with_channels_first(name):
    network, pictures = build(name).eval(), draw_pictures()
    taps = find_taps(network, pictures)
    with FeatureReader(network, taps) as reader:
        network(pictures)
        shapes = [tuple(feature.shape) for feature in reader.features]
        assert all(feature.requires_grad for feature in reader.features)
    assert shapes == [(4, tap.channels, *tap.size) for tap in taps]
    assert not any(module._forward_hooks for module in network.modules())
    assert not network._forward_pre_hooks


def test_a_reader_of_a_teacher_ends_the_gradient():
    network, pictures = build("cnn"), draw_pictures()
    with FeatureReader(network, find_taps(network, pictures), is_detached=True) as reader:
        network(pictures)
        assert not any(feature.requires_grad for feature in reader.features)


@pytest.mark.parametrize("name", ["cnn", "vit", "swin"])
def test_a_reader_lives_with_bf16_and_channels_last(name):
    network, pictures = build(name), draw_pictures()
    taps = find_taps(network, pictures)
    network.to(memory_format=torch.channels_last)
    pictures = pictures.contiguous(memory_format=torch.channels_last)
    with FeatureReader(network, taps) as reader, torch.autocast("cpu", torch.bfloat16):
        network(pictures)
        shapes = [tuple(feature.shape) for feature in reader.features]
    assert shapes == [(4, tap.channels, *tap.size) for tap in taps]


def test_a_copy_of_a_network_that_is_read_is_not_read():
    network, pictures = build("cnn"), draw_pictures()
    with FeatureReader(network, find_taps(network, pictures)) as reader:
        network(pictures)
        held = reader.features
        copy.deepcopy(network)(pictures + 1)
        assert all(a is b for a, b in zip(reader.features, held, strict=True))


def test_a_failed_forward_leaves_no_stale_features_and_no_hooks():
    network, pictures = build("cnn"), draw_pictures()
    reader = FeatureReader(network, find_taps(network, pictures))
    with pytest.raises(RuntimeError, match="taps before"):
        _ = reader.features
    network(pictures)
    with pytest.raises(RuntimeError, match="channels"):
        network(torch.rand(2, 1, 32, 32))
    with pytest.raises(RuntimeError, match="taps before"):
        _ = reader.features
    network(pictures)
    assert len(reader.features) == 3
    reader.close()
    reader.close()
    assert not any(module._forward_hooks for module in network.modules())


def test_an_error_inside_of_the_block_takes_the_hooks_off():
    network, pictures = build("cnn"), draw_pictures()
    taps = find_taps(network, pictures)
    with pytest.raises(ZeroDivisionError), FeatureReader(network, taps):
        _ = 1 / 0
    assert not any(module._forward_hooks for module in network.modules())
