import json
import pickle
import stat

import numpy as np
import pytest
import torch
from official_release import (
    RunsCode,
    deepspeech_constants,
    encode_graph,
    tiny_release,
    use_tiny_networks,
    write_basis,
)
from torch import nn

from eat_hf import EATPipeline
from eat_hf.conversion import official as convert
from eat_hf.conversion.official import ConversionError, convert_official
from eat_hf.errors import UserError


class Release:
    """The authors' files in a folder, with networks small enough for a test."""

    def __init__(self, folder):
        self.folder = folder
        self.eat, self.latent, self.models = tiny_release()
        self.basis = write_basis(folder / "expPCAnorm_fin")

    def convert(self, **options):
        """Save what the checkpoints hold now and convert it."""
        torch.save(self.eat, self.folder / "eat.pth.tar")
        torch.save(self.latent, self.folder / "latent.pth.tar")
        arguments = dict(
            checkpoint=self.folder / "eat.pth.tar",
            latent_checkpoint=self.folder / "latent.pth.tar",
            pca_dir=self.folder,
            output_dir=self.folder / "out" / "converted",
        )
        return convert_official(**arguments | options)

    def leftovers(self):
        out = self.folder / "out"
        return sorted(path.name for path in out.iterdir()) if out.exists() else []


@pytest.fixture
def release(tmp_path, monkeypatch):
    use_tiny_networks(monkeypatch)
    return Release(tmp_path)


def assert_same_weights(loaded: nn.Module, original: nn.Module, skip=()):
    ours, expected = loaded.state_dict(), original.state_dict()
    assert set(ours) == set(expected)
    for name in set(ours) - set(skip):
        torch.testing.assert_close(ours[name], expected[name], rtol=1e-5, atol=1e-6, msg=name)


def test_the_folder_loads_as_a_pipeline_with_the_same_weights(release):
    folder = release.convert()
    pipe = EATPipeline.from_pretrained(folder)
    for component, original in release.models.items():
        assert_same_weights(getattr(pipe, component), original, skip=("mel_padding", "semantic_padding"))
    assert not pipe.a2et.mel_padding.any() and not pipe.a2et.semantic_padding.any()
    directions, mean = release.basis
    np.testing.assert_array_equal(pipe.expression_basis.directions, directions[:, :32])
    np.testing.assert_array_equal(pipe.expression_basis.mean, mean)
    assert pipe.speech_encoder is None
    assert pipe.keypoint_detector.config.keypoint_space == "canonical"
    assert pipe.expression_basis.config.expression_frame == "camera"
    assert release.leftovers() == ["converted"]
    assert not list(folder.rglob("*.bin")) and list(folder.rglob("*.safetensors"))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_every_optional_file_is_used(release):
    rng = np.random.default_rng(0)
    mel, semantic = torch.randn(80), rng.normal(size=(16, 29))
    pair = np.empty(2, object)
    pair[:] = [mel, semantic]  # the release's file is such a pair of a tensor and an array
    np.save(release.folder / "pad.npy", pair, allow_pickle=True)
    template = rng.uniform(60, 200, (68, 2))
    np.save(release.folder / "M003_template.npy", template)
    constants = deepspeech_constants()
    (release.folder / "graph.pb").write_bytes(encode_graph(constants))

    folder = release.convert(
        deepspeech_graph=release.folder / "graph.pb",
        padding=release.folder / "pad.npy",
        template=release.folder / "M003_template.npy",
    )
    pipe = EATPipeline.from_pretrained(folder)
    torch.testing.assert_close(pipe.a2et.mel_padding, mel)
    np.testing.assert_allclose(pipe.a2et.semantic_padding, semantic, rtol=1e-6)
    np.testing.assert_allclose(pipe.keypoint_detector.config.template_landmarks, template, rtol=1e-6)
    np.testing.assert_array_equal(pipe.speech_encoder.dense3.weight.detach(), constants["h3"].T)
    assert set(json.loads((folder / "conversion.json").read_text())["files"]) >= {"deepspeech", "padding", "template"}
    assert "MPL 2.0" in (folder / "README.md").read_text()


def tensor_names(content, path=""):
    if isinstance(content, torch.Tensor):
        return {path[1:]}
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return set().union(*(tensor_names(value, f"{path}.{key}") for key, value in items)) if items else set()


def test_every_tensor_is_used_or_listed_with_a_reason(release):
    release.eat["optimizer_a2kp"] = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 1e-4}]}
    release.eat["discriminator"] = {"conv.weight": torch.ones(2, 2)}
    release.eat["epoch"] = 313
    release.eat["best_loss"] = np.float64(0.5)  # training scripts put numpy numbers there
    release.latent["kp_detector"] = {"kp.weight": torch.ones(1)}
    folder = release.convert()

    report = json.loads((folder / "conversion.json").read_text())
    dropped = {(entry["file"], entry["tensor"]): entry["reason"] for entry in report["dropped"]}
    assert set(dropped) == {
        ("eat", "kp_detector.down.weight"),
        ("eat", "audio2kptransformer.embedding.weight"),
        ("eat", "audio2kptransformer.pos_enc.pos_table"),
        *(
            ("eat", f"audio2kptransformer.f0_model.{name}.weight")
            for name in ("detector_conv.0", "bilstm_classifier", "bilstm_detector", "classifier", "detector")
        ),
        ("eat", "sidetuning.pos_enc.pos_table"),
        ("eat", "optimizer_a2kp.state.0.exp_avg"),
        ("eat", "discriminator.conv.weight"),
        ("latent", "kp_detector.kp.weight"),
        ("pca", "U_mead.npy[:, 32:]"),
    }
    assert "training" in dropped["eat", "optimizer_a2kp.state.0.exp_avg"]
    assert "EAT checkpoint" in dropped["latent", "kp_detector.kp.weight"]
    total = len(tensor_names(release.eat)) + len(tensor_names(release.latent)) + 2
    assert sum(report["used"].values()) + len(dropped) - 1 == total  # of U_mead.npy, part is used and part dropped
    assert report["files"]["eat"]["bytes"] == (release.folder / "eat.pth.tar").stat().st_size


def test_the_card_says_whose_weights_these_are(release):
    card = (release.convert() / "README.md").read_text()
    assert card.startswith("---\nlicense: cc-by-nc-4.0\n")
    for words in ("CC BY-NC 4.0", "ICCV 2023", "https://github.com/yuangan/EAT_code", "No DeepSpeech graph was given"):
        assert words in card
    assert "no layer of the network reads it" in card


def test_checkpoints_of_data_parallel_training_and_with_a_wrapper(release):
    release.eat["sidetuning"] = {f"module.{name}": tensor for name, tensor in release.eat["sidetuning"].items()}
    release.eat = {"epoch": 3, "model": release.eat, "optimizer": {"state": {0: torch.ones(1)}}}
    folder = release.convert()
    assert_same_weights(EATPipeline.from_pretrained(folder).edn, release.models["edn"])
    dropped = json.loads((folder / "conversion.json").read_text())["dropped"]
    assert {"file": "eat", "tensor": "model.audio2kptransformer.embedding.weight"}.items() <= dropped[1].items()


def test_half_precision_checkpoints_become_float32(release):
    name = "mappingnet.shared.0.weight"
    release.eat["emotionprompt"][name] = release.eat["emotionprompt"][name].half()
    mapper = EATPipeline.from_pretrained(release.convert()).emotion_mapper
    assert mapper.shared[0].weight.dtype == torch.float32
    original = release.models["emotion_mapper"].shared[0]
    torch.testing.assert_close(mapper.shared[0].weight, original.weight, atol=1e-3, rtol=0)


def test_one_error_names_everything_that_is_wrong(release):
    del release.eat["generator"]["first.conv.weight"]
    del release.latent["he_estimator"]["fc_yaw.bias"]
    release.eat["audio2kptransformer"]["surprise"] = torch.ones(1)
    release.eat["sidetuning"]["emokp.bias"] = torch.ones(44)
    release.eat["kp_detector"]["down.weight"] += 0.01
    with pytest.raises(ConversionError) as caught:
        release.convert()
    message = str(caught.value)
    assert "Missing tensors: generator.first.conv.weight, he_estimator.fc_yaw.bias" in message
    assert "Unknown tensors: audio2kptransformer.surprise" in message
    assert "Wrong shapes: sidetuning.emokp.bias is 44, not 45" in message
    assert "Not the expected constant: kp_detector.down.weight" in message
    assert caught.value.problems["Wrong shapes"] == ["sidetuning.emokp.bias is 44, not 45"]
    assert isinstance(caught.value, ValueError)
    assert release.leftovers() == []


def test_yaw_and_roll_are_where_the_release_keeps_them(release):
    estimator = EATPipeline.from_pretrained(release.convert()).motion_estimator
    torch.testing.assert_close(estimator.yaw.weight, release.latent["he_estimator"]["fc_roll.weight"])
    torch.testing.assert_close(estimator.roll.weight, release.latent["he_estimator"]["fc_yaw.weight"])


def test_spectral_norm_is_folded_as_torch_computes_it(release):
    torch.manual_seed(1)
    middle = release.models["repos_net"].decoder.middle[0].conv1
    normed = nn.utils.spectral_norm(nn.Conv2d(middle.in_channels, middle.out_channels, 3, padding=1))
    for _ in range(3):  # u and v move towards the singular vectors but are not there yet
        normed(torch.randn(1, middle.in_channels, 4, 4))
    normed.eval()
    for name, tensor in normed.state_dict().items():
        release.eat["generator"][f"decoder.G_middle_0.conv_0.{name}"] = tensor
    converted = EATPipeline.from_pretrained(release.convert()).repos_net.decoder.middle[0].conv1
    x = torch.randn(1, middle.in_channels, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(converted(x), normed(x), rtol=1e-5, atol=1e-5)


def test_code_in_pickles_is_never_run(release):
    marker = release.folder / "owned"
    release.eat["epoch"] = RunsCode(marker)
    with pytest.raises(ConversionError, match="cannot be read as a checkpoint of plain tensors"):
        release.convert()
    release.eat["epoch"] = 1
    pair = np.empty(2, object)
    pair[:] = [RunsCode(marker), np.zeros((16, 29))]
    np.save(release.folder / "pad.npy", pair, allow_pickle=True)
    with pytest.raises(ConversionError, match="neither array nor tensor"):
        release.convert(padding=release.folder / "pad.npy")
    np.save(release.folder / "expPCAnorm_fin" / "U_mead.npy", pair, allow_pickle=True)
    with pytest.raises(ConversionError, match="U_mead.npy cannot be read as an array of numbers"):
        release.convert()
    assert not marker.exists() and release.leftovers() == []


@pytest.mark.parametrize(
    ("option", "content", "message"),
    [
        ("checkpoint", b"no checkpoint", "checkpoint .* cannot be read"),
        ("latent_checkpoint", b"", "latent checkpoint .* cannot be read"),
        ("checkpoint", pickle.dumps([1, 2], protocol=2), "checkpoint .* holds a list|cannot be read"),
        ("padding", b"\x93NUMPY", "padding file .* is not a pair"),
        ("template", b"nothing", "alignment template .* cannot be read"),
        ("deepspeech_graph", b"nothing", "DeepSpeech graph"),
    ],
)
def test_unreadable_files_are_one_clear_error(release, option, content, message):
    path = release.folder / "broken"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match=message):
        release.convert(**{option: path})
    with pytest.raises(ConversionError, match="does not exist"):
        release.convert(**{option: release.folder / "absent"})
    assert release.leftovers() == []


def test_arrays_of_the_wrong_shape_are_refused(release):
    folder = release.folder / "expPCAnorm_fin"
    np.save(folder / "mean_mead.npy", np.zeros(44, np.float32))
    with pytest.raises(ConversionError, match=r"must hold numbers of shape \(45,\), not float32 \(44,\)"):
        release.convert()
    np.save(folder / "mean_mead.npy", np.zeros(45, np.float32))
    np.save(folder / "U_mead.npy", np.zeros((45, 31), np.float32))
    with pytest.raises(ConversionError, match="has 31 directions, but the network predicts 32"):
        release.convert()
    pair = np.empty(2, object)
    pair[:] = [np.zeros(81), np.zeros((16, 29))]
    np.save(release.folder / "pad.npy", pair, allow_pickle=True)
    write_basis(folder)
    with pytest.raises(ConversionError, match=r"shapes \(81,\) and \(16, 29\)"):
        release.convert(padding=release.folder / "pad.npy")


def test_a_checkpoint_without_a_network_is_refused(release):
    del release.eat["sidetuning"]
    with pytest.raises(ConversionError, match="eat checkpoint lacks the networks sidetuning"):
        release.convert()


def test_an_existing_folder_is_left_alone(release):
    folder = release.folder / "out" / "converted"
    folder.mkdir(parents=True)
    (folder / "precious").write_text("mine")
    with pytest.raises(ConversionError, match="already exists and is not empty"):
        release.convert()
    assert [path.name for path in folder.iterdir()] == ["precious"]
    (folder / "precious").unlink()
    assert (release.convert() / "model_index.json").is_file()  # an empty one may be filled


def test_nothing_half_written_stays_behind(release, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(convert, "_model_card", full_disk)  # after the weights were written
    with pytest.raises(UserError, match="No space left"):
        release.convert()
    assert release.leftovers() == []
