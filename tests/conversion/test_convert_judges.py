"""The networks that judge, and the sync loss's expert: layouts, numbers and conversion of the public checkpoints."""

import dataclasses
import hashlib
import zlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from official_release import RunsCode, randomised
from safetensors.torch import save_file
from torch import nn

from eat_hf.conversion import judges as convert_judges
from eat_hf.conversion.judges import JUDGES, ConversionError, convert_judge, judge_of_tensors
from eat_hf.errors import UserError
from eat_hf.models.judges import emotion_fan, syncnet
from eat_hf.models.judges.emotion_fan import EmotionFAN
from eat_hf.models.judges.inception import InceptionV3, Mixed
from eat_hf.models.judges.sync_expert import SyncExpert
from eat_hf.models.judges.syncnet import SyncNet
from eat_hf.models.judges.vgg import VGGFeatures

TINY_SYNCNET = dict(
    image_size=96,
    lip_channels=(4, 5, 6, 7, 8, 9),
    audio_channels=(4, 5, 6, 7, 8, 10),
    hidden=12,
    embedding=6,
)
TINY_FAN = dict(base_width=4, layers=(2, 1, 1, 1))
TINY_VGG = dict(channels=(4, 5, 6, 7, 8))


def tiny_syncnet(**config):
    torch.manual_seed(0)
    return randomised(SyncNet(**TINY_SYNCNET | config))


def tiny_fan(**config):
    torch.manual_seed(0)
    return randomised(EmotionFAN(**TINY_FAN | config))


def count(model):
    return sum(p.numel() for p in model.parameters())


def digest(tensors):
    """Of names and shapes."""
    lines = "\n".join(f"{name} {tuple(tensor.shape)}" for name, tensor in sorted(tensors.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def filled(shapes):
    """Tensors that depend on their names alone, of a size that keeps signals alive."""
    tensors = {}
    for name, shape in shapes.items():
        rng = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
        if name.endswith("num_batches_tracked"):
            tensors[name] = torch.zeros(shape, dtype=torch.int64)
        elif name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            tensors[name] = torch.from_numpy(rng.uniform(0.5, 1.5, shape)).float()
        else:
            fan_in = np.prod(shape[1:]) if len(shape) > 1 else 32
            tensors[name] = torch.from_numpy(rng.normal(0, (2 / fan_in) ** 0.5, shape)).float()
    return tensors


@pytest.fixture(scope="module")
def on_paper():
    """The default networks without memory."""
    with torch.device("meta"):
        return {c: c() for c in (SyncNet, SyncExpert, EmotionFAN, InceptionV3, VGGFeatures)}


# Layouts --------------------------------------------------------------------------------------------------------------


def test_parameter_counts(on_paper):
    trunk = [p for name, p in on_paper[EmotionFAN].named_parameters() if name.startswith(("conv1", "bn1", "layer"))]
    assert sum(p.numel() for p in trunk) == 11_176_512
    assert count(on_paper[InceptionV3]) == 21_785_568
    assert count(on_paper[SyncNet]) == 13_631_616
    assert count(on_paper[SyncExpert]) == 16_435_072


def test_names_and_shapes_of_torchvision(on_paper):
    """Digests of torchvision 0.28's inception_v3, resnet18, vgg19 and vgg16, without classifiers and later layers."""
    trunk = {n: t for n, t in on_paper[EmotionFAN].state_dict().items() if not n.startswith(("alpha", "beta", "pred"))}
    with torch.device("meta"):
        vgg16, fid = VGGFeatures(depth=16), InceptionV3("fid")
    inception = "5c5cb906421dd92101f74d73352774dd0c7312df1c7e1eab4f2698dfca34cd92"
    assert digest(on_paper[InceptionV3].state_dict()) == digest(fid.state_dict()) == inception
    assert digest(trunk) == "504739f3083bec5ee0755e2a89f10f73ea11987f4523e1732347283251361313"
    assert digest(on_paper[VGGFeatures].state_dict()).startswith("3204c792be19c26287838cb579d4423d")
    assert digest(vgg16.state_dict()).startswith("df94bc352bf444947a51200d8622a22339d67df5558532e5")


def test_emotion_fan_has_the_heads_of_its_checkpoint(on_paper):
    shapes = {n: tuple(t.shape) for n, t in on_paper[EmotionFAN].state_dict().items() if "alpha" in n or "beta" in n}
    assert shapes == {"alpha.0.weight": (1, 512), "alpha.0.bias": (1,), "beta.0.weight": (1, 1024), "beta.0.bias": (1,)}
    assert on_paper[EmotionFAN].pred_fc2.weight.shape == (8, 1024)


# (kernel, stride, padding) of a convolution with norm and ReLU, or of a pooling with a "max" in front
PUBLIC_LIP = [
    ((5, 7, 7), (1, 2, 2), 0),
    ("max", (1, 3, 3), (1, 2, 2), 0),
    ((1, 5, 5), (1, 2, 2), (0, 1, 1)),
    ("max", (1, 3, 3), (1, 2, 2), (0, 1, 1)),
    *[((1, 3, 3), 1, (0, 1, 1))] * 3,
    ("max", (1, 3, 3), (1, 2, 2), 0),
    ((1, 6, 6), 1, 0),
]
PUBLIC_AUDIO = [
    (3, 1, 1),
    ("max", 1, 1, 0),
    (3, 1, 1),
    ("max", 3, (1, 2), 0),
    *[(3, 1, 1)] * 3,
    ("max", 3, 2, 0),
    ((5, 4), 1, 0),
]


def public_stream(table, in_channels, widths, dims):
    """One stream of SyncNet-v2 in plain layers of torch."""
    conv, norm, pool = {
        2: (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d),
        3: (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d),
    }[dims]
    layers, widths = [], iter(widths)
    for entry in table:
        if entry[0] == "max":
            layers.append(pool(*entry[1:]))
        else:
            width = next(widths)
            layers += [conv(in_channels, width, *entry), norm(width), nn.ReLU()]
            in_channels = width
    return nn.Sequential(*layers)


def test_syncnet_has_the_names_and_shapes_of_the_public_file(on_paper):
    with torch.device("meta"):
        lips = public_stream(PUBLIC_LIP, 3, (96, 256, 256, 256, 256, 512), 3)
        audio = public_stream(PUBLIC_AUDIO, 1, (64, 192, 384, 256, 256, 512), 2)
        heads = {f"netfc{name}": nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512)) for name in ("aud", "lip")}
        public = nn.ModuleDict({"netcnnaud": audio, "netcnnlip": lips, **heads})
        for head in heads.values():
            head.append(nn.ReLU()).append(nn.Linear(512, 1024))
    expected = {name: tensor.shape for name, tensor in public.state_dict().items()}
    assert {name: tensor.shape for name, tensor in on_paper[SyncNet].state_dict().items()} == expected


# SyncNet --------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips():
    generator = torch.Generator().manual_seed(1)
    return torch.rand(2, 3, 9, 96, 96, generator=generator) * 255


@pytest.mark.parametrize("training", [False, True])
def test_folding_time_equals_every_window_by_itself(clips, training, monkeypatch):
    monkeypatch.setattr(syncnet, "WINDOWS_AT_ONCE", 2)  # 5 windows: the last part holds one
    net = tiny_syncnet()
    table = [*PUBLIC_LIP[:-1], ((1, 2, 2), 1, 0)]  # what is left of 96 pixels there
    public = public_stream(table, 3, TINY_SYNCNET["lip_channels"], 3)
    public.load_state_dict(net.netcnnlip.state_dict())
    head = tiny_syncnet().netfclip
    for module in (net, public, head):
        module.train(training)
    with torch.no_grad():
        windows = torch.cat([clips[:, :, i : i + 5] for i in range(5)])
        expected = head(public(windows).flatten(1)).unflatten(0, (5, 2)).transpose(0, 1)
        torch.testing.assert_close(net.encode_lips(clips), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(net.netcnnlip.state_dict(), public.state_dict(), rtol=1e-4, atol=1e-5)


def test_audio_windows_follow_the_frames(clips):
    net = tiny_syncnet()
    mfcc = torch.randn(2, 1, 13, 39, generator=torch.Generator().manual_seed(2))
    public = public_stream(PUBLIC_AUDIO, 1, TINY_SYNCNET["audio_channels"], 2).eval()
    public.load_state_dict(net.netcnnaud.state_dict())
    with torch.no_grad():
        out = net(clips, mfcc)
        expected = [net.netfcaud(public(mfcc[..., 4 * i : 4 * i + 20]).flatten(1)) for i in range(5)]
    assert out.audio.shape == out.lips.shape == (2, 5, 6)
    torch.testing.assert_close(out.audio, torch.stack(expected, 1), rtol=1e-4, atol=1e-5)


def test_syncnet_refuses_what_it_cannot_see_or_hear():
    net = tiny_syncnet()
    with pytest.raises(ValueError, match=r"\(B, 3, T, 96, 96\) with T >= 5, not \(1, 3, 4, 96, 96\)"):
        net.encode_lips(torch.zeros(1, 3, 4, 96, 96))
    with pytest.raises(ValueError, match=r"not \(1, 3, 5, 112, 112\)"):
        net.encode_lips(torch.zeros(1, 3, 5, 112, 112))
    with pytest.raises(ValueError, match=r"M >= 20, not \(1, 1, 13, 19\)"):
        net.encode_audio(torch.zeros(1, 1, 13, 19))
    with pytest.raises(ValueError, match="at least 51, not 50"):
        SyncNet(image_size=50)
    assert SyncNet(**TINY_SYNCNET | {"image_size": 51}).encode_lips(torch.zeros(2, 3, 5, 51, 51)).shape == (2, 1, 6)


# Emotion-FAN ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def faces():
    return torch.rand(2, 5, 3, 40, 40, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def no_dropout(monkeypatch):
    monkeypatch.setattr(F, "dropout", lambda x, *_: x)


def logits_by_hand(net, features, alpha, beta, official):
    """Of one clip: features (N, D), alpha and beta (N,), as numpy."""
    mean = sum(a * f for a, f in zip(alpha, features, strict=True)) / alpha.sum()
    related = [np.concatenate([f, mean]) for f in features]
    weights = alpha if official else alpha * beta
    clip = sum(w * r for w, r in zip(weights, related, strict=True)) / (alpha * beta).sum()
    assert np.allclose(
        beta, 1 / (1 + np.exp(-(np.stack(related) @ numbers(net.beta[0].weight)[0] + net.beta[0].bias.item())))
    )
    return numbers(net.pred_fc2.weight) @ clip + numbers(net.pred_fc2.bias)


def numbers(tensor):
    return tensor.detach().double().numpy()


@pytest.mark.parametrize("weights", ["alpha", "alpha_beta"])
@pytest.mark.parametrize("training", [False, True])
def test_attention_by_hand(faces, weights, training, no_dropout):
    net = tiny_fan(evaluation_weights=weights).train(training)
    with torch.no_grad():
        out = net(faces)
    assert out.logits.shape == (2, 8) and out.alpha.shape == out.beta.shape == (2, 5)
    assert out.features.shape == (2, 5, 32)
    for i in range(2):
        f, alpha, beta = (numbers(value[i]) for value in (out.features, out.alpha, out.beta))
        np.testing.assert_allclose(alpha, torch.sigmoid(net.alpha[0](out.features[i]))[:, 0].detach(), rtol=1e-5)
        expected = logits_by_hand(net, f, alpha, beta, official=weights == "alpha" and not training)
        np.testing.assert_allclose(numbers(out.logits[i]), expected, rtol=1e-4, atol=1e-5)
    assert out.beta.std() > 1e-3  # otherwise both readings would differ by a factor alone


@pytest.mark.parametrize("training", [False, True])
def test_a_mask_equals_dropping_the_frames(faces, training, no_dropout, monkeypatch):
    monkeypatch.setattr(emotion_fan, "FACES_AT_ONCE", 3)
    mask = torch.tensor([[True, False, True, True, False], [False, True, True, True, True]])
    net = tiny_fan().train(training)
    spoilt = torch.where(mask[..., None, None, None], faces, 1e6)
    with torch.no_grad():
        out = net(spoilt, mask)
        if training:  # the norms see both clips, so that the reference has to as well
            other = tiny_fan().train()(faces, mask)
            torch.testing.assert_close(out.logits, other.logits)
        else:
            alone = [net(clip[keep][None]) for clip, keep in zip(faces, mask, strict=True)]
            torch.testing.assert_close(out.logits, torch.cat([a.logits for a in alone]), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(out.features[0][mask[0]], alone[0].features[0], rtol=1e-4, atol=1e-5)
    assert not (out.alpha[~mask].any() or out.beta[~mask].any() or out.features[~mask].any())
    with pytest.raises(ValueError, match="clip 1 of the batch without any face"):
        net(faces, torch.tensor([[True] * 5, [False] * 5]))


def test_dropout_is_at_work_in_training_only(faces):
    net = tiny_fan()
    with torch.no_grad():
        torch.testing.assert_close(net(faces).logits, net(faces).logits, rtol=0, atol=0)
        net.train()
        assert not torch.allclose(net(faces).logits, net(faces).logits)


# Inception and VGG ----------------------------------------------------------------------------------------------------

# what torchvision 0.28 and pytorch-fid 0.3.0 compute with `filled` weights: features 0 to 5, mean and deviation of all
INCEPTION = {
    "imagenet": ([7.9383464, 0.0475007, 0.0, 9.1259308, 6.1002374, 0.0], 3.5634377, 4.8274574),
    "fid": ([8.1376257, 0.0527554, 0.0, 9.2552519, 6.3649993, 0.0], 3.8387794, 5.2192941),
}


@pytest.fixture(scope="module")
def inception_tensors(on_paper):
    return filled({name: tuple(tensor.shape) for name, tensor in on_paper[InceptionV3].state_dict().items()})


@pytest.mark.parametrize("variant", INCEPTION)
def test_inception_computes_what_the_public_code_does(variant, inception_tensors, tmp_path):
    classes = {"imagenet": 1000, "fid": 1008}[variant]
    tensors = inception_tensors | {"fc.weight": torch.zeros(classes, 2048), "fc.bias": torch.zeros(classes)}
    if variant == "imagenet":
        tensors["AuxLogits.conv0.conv.weight"] = torch.zeros(128, 768, 1, 1)
    torch.save(tensors, tmp_path / "inception.pth")
    net = InceptionV3.from_pretrained(convert_judge("inception", tmp_path / "inception.pth", tmp_path / "converted"))
    assert net.config.variant == variant and not net.training
    pictures = torch.linspace(0, 1, 3 * 40 * 50).view(1, 3, 40, 50)
    with torch.no_grad():
        features = net(pictures)
    first, mean, deviation = INCEPTION[variant]
    assert features.shape == (1, 2048)
    np.testing.assert_allclose(features[0, :6], first, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose([features.mean(), features.std()], [mean, deviation], rtol=1e-3)


@pytest.mark.parametrize(
    ("depth", "plan"),
    [(16, "1 1 M 2 2 M 3 3 3 M 4 4 4 M 5"), (19, "1 1 M 2 2 M 3 3 3 3 M 4 4 4 4 M 5")],
)
def test_vgg_returns_the_first_layer_of_every_stage(depth, plan):
    torch.manual_seed(0)
    net = randomised(VGGFeatures(depth, **TINY_VGG))
    weights = iter(p.detach() for p in net.parameters())
    pictures = torch.rand(2, 3, 40, 33)
    x = (pictures - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    expected, stages = [], set()
    for step in plan.split():
        x = F.max_pool2d(x, 2) if step == "M" else F.conv2d(x, next(weights), next(weights), padding=1).relu()
        if step not in stages | {"M"}:
            expected.append(x)
            stages.add(step)
    with torch.no_grad():
        maps = net(pictures)
    assert [tuple(m.shape) for m in maps] == [
        (2, 4, 40, 33),
        (2, 5, 20, 16),
        (2, 6, 10, 8),
        (2, 7, 5, 4),
        (2, 8, 2, 2),
    ]
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="16 or 19, not 13"):
        VGGFeatures(depth=13)


# Training -------------------------------------------------------------------------------------------------------------


def run_syncnet(net):
    out = net(torch.rand(2, 3, 6, 96, 96) * 255, torch.randn(2, 1, 13, 24))
    return (out.lips - out.audio).square().mean()


def run_expert(net):
    out = net(torch.randn(3, 1, 80, 16), torch.rand(3, 15, 48, 96))
    torch.testing.assert_close(torch.stack([out.audio, out.face]).norm(dim=-1), torch.ones(2, 3))
    return F.binary_cross_entropy((out.audio * out.face).sum(1).clamp(1e-3, 1 - 1e-3), torch.tensor([1.0, 0.0, 1.0]))


def run_fan(net):
    logits = net(torch.rand(2, 3, 3, 48, 48), torch.tensor([[True, True, False], [True] * 3])).logits
    return F.cross_entropy(logits, torch.tensor([2, 5]))


def run_mixed(net):
    out = net(torch.rand(2, 3, 8, 8))
    assert out.shape == (2, 4 + 5 + 2, 8, 8)
    return out.square().sum()


@pytest.mark.parametrize(
    ("make", "run"),
    [
        (lambda: SyncNet(**TINY_SYNCNET), run_syncnet),
        (lambda: SyncExpert(width=0.125), run_expert),
        (lambda: EmotionFAN(**TINY_FAN), run_fan),
        (lambda: Mixed(3, {"a": [(4, 1)], "b": [(4, (1, 7)), [(2, 3), (3, 1)]]}, 2), run_mixed),
        (lambda: VGGFeatures(**TINY_VGG), lambda net: sum(m.mean() for m in net(torch.rand(1, 3, 32, 32)))),
    ],
    ids=["syncnet", "sync-expert", "emotion-fan", "inception-block", "vgg"],
)
def test_everything_can_be_trained(make, run):
    torch.manual_seed(0)
    net = make().train()
    run(net).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_the_sync_loss_reaches_the_picture():
    expert = SyncExpert(width=0.125).eval().requires_grad_(False)
    faces = torch.rand(1, 15, 48, 96, requires_grad=True)
    out = expert(torch.randn(1, 1, 80, 16), faces)
    (out.audio * out.face).sum().backward()
    assert faces.grad is not None and faces.grad.any()
    assert out.face.shape == (1, 64)


# Conversion -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_judges(monkeypatch):
    """The converter expects small networks; a model of each kind."""
    torch.manual_seed(0)
    builders = {
        "syncnet": lambda _=None: SyncNet(**TINY_SYNCNET),
        "sync-expert": lambda _=None: SyncExpert(width=0.125),
        "emotion-fan": lambda _=None: EmotionFAN(**TINY_FAN),
        "vgg19": lambda _=None: VGGFeatures(**TINY_VGG),
    }
    for kind, build in builders.items():
        monkeypatch.setitem(JUDGES, kind, dataclasses.replace(JUDGES[kind], build=build))
    return {kind: randomised(build()) for kind, build in builders.items()}


def without_counters(tensors):
    return {name: tensor for name, tensor in tensors.items() if not name.endswith("num_batches_tracked")}


def public_checkpoint(kind, tensors):
    """As the file of that kind is laid out."""
    if kind == "syncnet":
        return without_counters(tensors)
    if kind == "sync-expert":
        return {"state_dict": tensors, "optimizer": {"state": {0: torch.ones(1)}}, "global_step": 500_000}
    if kind == "emotion-fan":
        others = {"pred_fc1.weight": torch.ones(8, 32), "pred_fc1.bias": torch.ones(8)}
        state = {f"module.{name}": tensor for name, tensor in (tensors | others).items()}
        return {"epoch": 24, "state_dict": state, "accuracy": torch.tensor(99.0), "name": "lr4e-5"}
    behind = {"features.34.weight": torch.ones(2), "classifier.6.bias": torch.ones(1000)}
    return tensors | behind


@pytest.mark.parametrize("kind", ["syncnet", "sync-expert", "emotion-fan", "vgg19"])
def test_round_trip_of_a_public_checkpoint(kind, tiny_judges, tmp_path):
    original = tiny_judges[kind]
    checkpoint = public_checkpoint(kind, original.state_dict())
    path = tmp_path / "public.model"
    torch.save(checkpoint, path, _use_new_zipfile_serialization=kind != "syncnet")  # that file is an old one
    folder = convert_judge(kind, path, tmp_path / "out" / "judge")

    files = ["README.md", "config.json", "diffusion_pytorch_model.safetensors"]
    assert sorted(file.name for file in folder.iterdir()) == files
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["judge"]
    loaded = type(original).from_pretrained(folder)
    torch.testing.assert_close(loaded.state_dict(), original.state_dict(), rtol=0, atol=0)

    card = (folder / "README.md").read_text()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (
        card.startswith(f"---\nlicense: {JUDGES[kind].license}\n") and digest in card and "https://github.com" in card
    )
    assert f"{type(original).__name__}.from_pretrained" in card
    assert ("`pred_fc1.*`" in card) == (kind == "emotion-fan")
    assert ("relu5_1" in card) == (kind == "vgg19")


def test_safetensors_and_half_precision(tiny_judges, tmp_path):
    original = tiny_judges["vgg19"]
    tensors = {name: tensor.half() for name, tensor in original.state_dict().items()}
    save_file(tensors | {"head.fc.bias": torch.ones(3)}, tmp_path / "model.safetensors")
    folder = convert_judge("vgg19", tmp_path / "model.safetensors", tmp_path / "judge")
    loaded = VGGFeatures.from_pretrained(folder)
    assert loaded.features[0].weight.dtype == torch.float32
    torch.testing.assert_close(loaded.state_dict(), original.state_dict(), rtol=1e-3, atol=1e-3)


def test_one_error_names_everything_that_is_wrong(tiny_judges, tmp_path):
    tensors = tiny_judges["emotion-fan"].state_dict()
    del tensors["beta.0.bias"]
    tensors["surprise"] = torch.ones(1)
    tensors["pred_fc2.bias"] = torch.ones(7)
    torch.save({"state_dict": tensors}, tmp_path / "fan.pth.tar")
    with pytest.raises(UserError) as caught:
        convert_judge("emotion-fan", tmp_path / "fan.pth.tar", tmp_path / "judge")
    assert str(caught.value) == (
        "The checkpoint is not that of Emotion-FAN. Missing tensors: beta.0.bias; Unknown tensors: surprise; "
        "Wrong shapes: pred_fc2.bias is 7, not 8."
    )
    assert not (tmp_path / "judge").exists()


def test_the_judge_of_another_kind_is_refused_in_a_short_message(tiny_judges):
    with pytest.raises(ConversionError, match=r"Missing tensors: face_encoder.* more; Unknown tensors: ") as caught:
        judge_of_tensors("sync-expert", tiny_judges["syncnet"].state_dict())
    assert len(str(caught.value)) < 1500
    assert len(caught.value.problems["Missing tensors"]) == len(
        without_counters(tiny_judges["sync-expert"].state_dict())
    )


def test_inceptions_of_unknown_origin_are_refused():
    with pytest.raises(ConversionError, match="has 10 classes, where torchvision's has 1000"):
        judge_of_tensors("inception", {"fc.weight": torch.zeros(10, 2048)})
    with pytest.raises(ConversionError, match="has no fc.weight"):
        judge_of_tensors("inception", {})


def test_code_in_pickles_is_never_run(tmp_path):
    torch.save({"a": RunsCode(tmp_path / "owned")}, tmp_path / "evil.model")
    with pytest.raises(ConversionError, match="cannot be read as a checkpoint of plain tensors"):
        convert_judge("syncnet", tmp_path / "evil.model", tmp_path / "judge")
    assert not (tmp_path / "owned").exists()


def test_other_mistakes_are_one_clear_error(tmp_path):
    path = tmp_path / "model.pth"
    with pytest.raises(ConversionError, match="no judge 'fid' to convert; choose one of syncnet, sync-expert"):
        convert_judge("fid", path, tmp_path / "judge")
    with pytest.raises(ConversionError, match="model.pth does not exist"):
        convert_judge("vgg19", path, tmp_path / "judge")
    with pytest.raises(ConversionError, match="absent.safetensors does not exist"):
        convert_judge("vgg19", tmp_path / "absent.safetensors", tmp_path / "judge")
    torch.save({"epoch": 3, "net": {"a": torch.ones(1)}}, path)
    with pytest.raises(ConversionError, match="none under 'state_dict'; it holds epoch, net"):
        convert_judge("vgg19", path, tmp_path / "judge")
    torch.save({}, path)
    with pytest.raises(ConversionError, match="it holds nothing"):
        convert_judge("vgg19", path, tmp_path / "judge")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ConversionError, match="cannot be read as safetensors"):
        convert_judge("vgg19", tmp_path / "broken.safetensors", tmp_path / "judge")
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "precious").write_text("mine")
    with pytest.raises(ConversionError, match="already exists and is not empty"):
        convert_judge("vgg19", path, tmp_path / "judge")


def test_nothing_half_written_stays_behind(tiny_judges, tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    torch.save(tiny_judges["vgg19"].state_dict(), tmp_path / "vgg.pth")
    monkeypatch.setattr(VGGFeatures, "save_pretrained", full_disk)
    with pytest.raises(UserError, match="No space left"):
        convert_judge("vgg19", tmp_path / "vgg.pth", tmp_path / "out" / "judge")
    assert list((tmp_path / "out").iterdir()) == []


def test_every_kind_says_where_it_comes_from():
    assert list(JUDGES) == ["syncnet", "sync-expert", "emotion-fan", "inception", "vgg19"]
    assert all("https://github.com/" in judge.origin and judge.license_note for judge in JUDGES.values())
    assert convert_judges.ConversionError is ConversionError and issubclass(ConversionError, UserError)
