"""The official network's numbers: pseudo release -> converted folder -> safetensors -> what the network computes.

Every tensor is compared at rtol 1e-4, atol 1e-5 in float32.
"""

import copy
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pseudo_release import goldens, pseudo_checkpoint, pseudo_input, source_image

from eat_hf import keypoints as kp
from eat_hf.animation.pose_pictures import pose_pictures
from eat_hf.conversion.judges import convert_judge
from eat_hf.conversion.official import convert_official, load_official
from eat_hf.inputs.audio import log_mel
from eat_hf.models.a2et import A2ET
from eat_hf.models.eam import modulate_per_frame
from eat_hf.models.edn import EDN
from eat_hf.models.emotion_mapper import EmotionMapper
from eat_hf.models.expression_basis import ExpressionBasis
from eat_hf.models.judges.sync_expert import SyncExpert
from eat_hf.models.keypoint_detector import CanonicalKeypointDetector
from eat_hf.models.motion_estimator import MotionEstimator
from eat_hf.models.repos_net import RePosNet

HAPPY = 4


def assert_golden(ours, golden):
    ours = np.asarray(ours)
    assert ours.shape == golden.shape
    np.testing.assert_allclose(ours, golden, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module", autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def golden():
    return goldens("golden_seed0.npz")


@pytest.fixture(scope="module")
def extra():
    return goldens("golden_extra_seed0.npz")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The pseudo release, converted. 0.9 GB each before and after; both go when the module is done."""
    place = tmp_path_factory.mktemp("pseudo_release")
    checkpoints = {}
    for section in ("eat", "latent"):
        checkpoints[section] = place / f"{section}.pth.tar"
        torch.save(pseudo_checkpoint(section), checkpoints[section])
    for name, key in (("U_mead.npy", "U"), ("mean_mead.npy", "mean")):
        np.save(place / name, goldens("golden_pca.npz")[key])
    converted = convert_official(checkpoints["eat"], checkpoints["latent"], place, output_dir=place / "converted")
    for path in checkpoints.values():
        path.unlink()
    yield converted
    for path in converted.rglob("*.safetensors"):
        path.unlink()


@pytest.fixture(scope="module")
def network(folder):
    classes = {
        "keypoint_detector": CanonicalKeypointDetector,
        "motion_estimator": MotionEstimator,
        "emotion_mapper": EmotionMapper,
        "a2et": A2ET,
        "edn": EDN,
        "repos_net": RePosNet,
        "expression_basis": ExpressionBasis,
    }
    return SimpleNamespace(**{name: c.from_pretrained(folder, subfolder=name).eval() for name, c in classes.items()})


@pytest.fixture(scope="module")
def inputs():
    make = pseudo_input
    return SimpleNamespace(
        picture=source_image(),
        semantic=make("deep", (1, 6, 11, 16, 29)),
        mel=make("mel", (1, 6, 1, 80, 11))[:, :, 0].transpose(2, 3),
        pose_images=make("pose", (6, 11, 1, 64, 64), "uniform")[None, :, :, 0],
        angles=[make(name, (1, 6, 66)) for name in ("yaw", "pitch", "roll")],
        translation=make("t", (1, 6, 3), scale=0.05),
        latent=make("z", (1, 16)),
    )


@pytest.fixture(scope="module")
def detected(network, inputs):
    return network.keypoint_detector(inputs.picture)


@pytest.fixture(scope="module")
def estimated(network, inputs):
    return network.motion_estimator(inputs.picture)


@pytest.fixture(scope="module")
def prompts(network, inputs):
    return network.emotion_mapper(inputs.latent, torch.tensor([HAPPY])).prompts


@pytest.fixture(scope="module")
def heard(network, inputs, detected, prompts):
    i = inputs
    return network.a2et(i.semantic, i.mel, i.pose_images, *i.angles, i.translation, detected.prediction_map, prompts)


@pytest.fixture(scope="module")
def deformation(network, heard, prompts):
    return network.edn(heard.face_features, prompts).expression


@pytest.fixture(scope="module")
def source_keypoints(detected, estimated):
    rotation = kp.head_rotation(estimated.yaw, estimated.pitch, estimated.roll)
    return kp.compose_keypoints(detected.keypoints, rotation, estimated.translation, estimated.expression)


@pytest.fixture(scope="module")
def raw_driving_keypoints(network, inputs, detected, heard, deformation):
    volume = kp.hull_volume(detected.keypoints)
    expression = (network.expression_basis(heard.coefficients) + deformation[:, None]) * volume[:, None, None]
    rotation = kp.head_rotation(*inputs.angles)
    return kp.compose_keypoints(detected.keypoints[:, None], rotation, inputs.translation, expression)


@pytest.fixture(scope="module")
def driving_keypoints(raw_driving_keypoints, source_keypoints):
    return kp.centre_on_source(raw_driving_keypoints, source_keypoints)


def test_the_input_is_the_one_behind_the_goldens(inputs, golden):
    assert_golden(inputs.picture, golden["in.source"])


def test_keypoint_detector(detected, golden):
    assert_golden(detected.keypoints, golden["kp.value"])
    assert_golden(detected.prediction_map[:, :, ::5, ::9, ::9], golden["kp.prediction_map.sub"])


def test_motion_estimator(estimated, golden):
    for name in ("yaw", "pitch", "roll"):
        assert_golden(estimated[name], golden[f"he.{name}"])
    assert_golden(estimated.translation, golden["he.t"])
    assert_golden(estimated.expression, golden["he.exp"])


def test_emotion_mapper(network, inputs, prompts, golden):
    assert_golden(prompts[:, 0], golden["prompt.first"])
    assert_golden(prompts[:, 1:], golden["prompt.deep"])
    every = network.emotion_mapper(inputs.latent.expand(8, -1), torch.arange(8)).prompts
    assert_golden(every, golden["prompt.all"])


def test_pitch_network_and_acoustic_encoder(network, inputs, prompts, golden):
    picture = inputs.mel[0].transpose(1, 2)[:, None]
    pitch = network.a2et.pitch_network(picture)
    assert_golden(pitch, golden["jdc.feature"])
    # in float64, because fast (Winograd) convolutions of some processors round by more than the tolerance here
    encoder = copy.deepcopy(network.a2et.acoustic_encoder).double()
    sound = encoder(picture.double(), pitch.double(), prompts[:, 0].double().expand(6, -1))
    assert_golden(sound[:, ::8, ::4], golden["audio_encoder.sub"])


def test_a2et(heard, golden):
    assert_golden(heard.coefficients[0], golden["a2et.pca"])
    assert_golden(heard.face_features[:, :, ::7, ::7], golden["a2et.face_feature_map.sub"])


def test_edn(deformation, golden):
    assert_golden(deformation.expand(6, -1), golden["edn.delta"])


def test_source_and_driving_keypoints(detected, source_keypoints, raw_driving_keypoints, driving_keypoints, golden):
    np.testing.assert_allclose(kp.hull_volume(detected.keypoints), golden["hull_volume"], rtol=1e-4, atol=1e-8)
    assert_golden(source_keypoints, golden["kp_source"])
    assert_golden(raw_driving_keypoints[0], golden["kp_driving.raw"])
    assert_golden(driving_keypoints[0], golden["kp_driving.centred"])


@pytest.fixture(scope="module")
def source_features(network, inputs):
    return network.repos_net.encode(inputs.picture)


def test_feature_volume(network, source_features, prompts, golden):
    volume = modulate_per_frame(network.repos_net.volume_eam, source_features.volume, prompts[:, 0], 1)
    assert_golden(volume[:, ::4, ::5, ::8, ::8], golden["gen.feature_3d.sub"])


@pytest.mark.parametrize("frame", [5, pytest.param(0, marks=pytest.mark.slow)])
def test_whole_frame(network, source_features, source_keypoints, driving_keypoints, prompts, golden, frame):
    out = network.repos_net.render(source_features, source_keypoints, driving_keypoints[:, [frame]], prompts[:, 0])
    assert_golden(out.deformation[:, 0, ::5, ::8, ::8], golden[f"gen.deformation.{frame}.sub"])
    assert_golden(out.mask[:, 0, :, ::5, ::8, ::8], golden[f"gen.mask.{frame}.sub"])
    assert_golden(out.occlusion[:, 0, ..., ::4, ::4], golden[f"gen.occlusion.{frame}.sub"])
    assert_golden(out.frames[:, 0], golden[f"gen.prediction.{frame}"])


def test_a2et_before_emotional_adaptation(inputs, detected, extra):
    i = inputs
    tensors = pseudo_checkpoint("pretrain")["audio2kptransformer"]
    a2et = load_official("a2et", A2ET(), tensors, stage1=True)
    out = a2et(i.semantic, i.mel, i.pose_images, *i.angles, i.translation, detected.prediction_map)
    assert_golden(out.coefficients[0], extra["pretrain.a2et.pca"])


def test_text_mapper(inputs, extra):
    tensors = pseudo_checkpoint("text")["mapper"]
    mapper = load_official("emotion_mapper", EmotionMapper(emotions=("text",)), tensors)
    assert_golden(mapper(inputs.latent, torch.tensor([0])).prompts, extra["text.prompts"])


def test_sync_expert(extra, tmp_path):
    torch.save(pseudo_checkpoint("syncnet"), tmp_path / "sync.pth")
    expert = SyncExpert.from_pretrained(convert_judge("sync-expert", tmp_path / "sync.pth", tmp_path / "converted"))
    make = pseudo_input
    out = expert(make("sync_mel", (2, 1, 80, 16)), make("sync_face", (2, 15, 48, 96), "uniform"))
    assert_golden(out.audio, extra["sync.audio"])
    assert_golden(out.face, extra["sync.face"])


def test_pose_pictures(inputs, extra):
    pictures = pose_pictures(kp.pose_picture_rotation(*inputs.angles)[0], inputs.translation[0])
    assert_golden(pictures[:, None], extra["pose_images"])


def test_log_mel(extra):
    assert_golden(log_mel(torch.from_numpy(extra["mel.wave"])).T, extra["mel.mel"])


def test_the_converted_folder_loads_as_a_pipeline(folder, network):
    from eat_hf import EATPipeline

    pipe = EATPipeline.from_pretrained(folder)
    assert pipe.speech_encoder is None  # no DeepSpeech graph was converted
    torch.testing.assert_close(pipe.edn.state_dict(), network.edn.state_dict(), rtol=0, atol=0)
    assert list(pipe.emotions) == list(network.emotion_mapper.config.emotions)
