"""Frames that onnxruntime makes of an exported model are those of the pipeline."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import COEFFICIENTS, WIDTH, build_tiny_pipeline, voice
from scipy.spatial import ConvexHull
from tiny_renderers import DETAIL, EYES, KEYPOINTS

from eat_hf import EATPipeline
from eat_hf.animation.pose_pictures import pose_pictures
from eat_hf.errors import UserError
from eat_hf.export.closed_forms import hull_volume
from eat_hf.export.onnx_folder import export_onnx
from eat_hf.inputs.audio import log_mel, semantic_windows
from eat_hf.inputs.head_motion import HeadMotion
from eat_hf.keypoints import logits_from_degrees, pose_picture_rotation
from eat_hf.media.recordings import read_audio

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def pipeline():
    """A tiny one of the bundled kind."""
    from eat_hf import (
        A2ET,
        EDN,
        DetailRenderer,
        ExpressionBasis,
        LandmarkDetector,
        MotionEstimator,
        StreamingSpeechEncoder,
    )

    given = build_tiny_pipeline().components
    torch.manual_seed(3)
    renderer = DetailRenderer(**DETAIL | {"guidance": WIDTH}, eyes=EYES)
    a2et = {**given["a2et"].config, "keypoints": KEYPOINTS, "depth": 1}
    a2et = A2ET(**{name: value for name, value in a2et.items() if not name.startswith("_")})
    basis = ExpressionBasis(
        KEYPOINTS,
        COEFFICIENTS,
        expression_frame="head",
        hull_volume_exponent=0.5,
        driving_centring="none",
        blink_deformation=[0.02] * 3 * KEYPOINTS,
        gaze_deformation=[[0.001] * 3 * KEYPOINTS] * 2,
        lips=(0, 1),
        lips_apart=0.1,
        parting_deformation=[0.1] * 3 * KEYPOINTS,
    )
    with torch.no_grad():
        basis.directions.normal_(0, 0.1)
        a2et.semantic_padding.fill_(0.3)
        a2et.mel_padding.fill_(-0.4)
    changed = {
        "keypoint_detector": LandmarkDetector(KEYPOINTS, (4, 8), (8,)),
        "motion_estimator": MotionEstimator(KEYPOINTS, 66, 8, (8, 16), (1, 2), pooled_size=2),
        "a2et": a2et,
        "edn": EDN(width=WIDTH, heads=2, feed_forward=32, layers=2, face_widths=(8, 8, WIDTH), keypoints=KEYPOINTS),
        "repos_net": renderer,
        "speech_encoder": StreamingSpeechEncoder(bands=16, width=12, blocks=2),
        "expression_basis": basis,
    }
    pipe = EATPipeline(**given | {name: module.eval() for name, module in changed.items()})
    pipe.set_progress_bar_config(disable=True)
    return pipe


class Graphs:
    """The graphs of a folder, run as its README says."""

    def __init__(self, folder: Path):
        self.folder, self.facts = folder, json.loads((folder / "graphs.json").read_text())

    def __getattr__(self, name: str):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(self.folder / f"{name}.onnx", options)
        (known,) = (graph for graph in self.facts["graphs"] if graph["file"] == f"{name}.onnx")
        outputs = [tensor["name"] for tensor in known["outputs"]]

        def run(**inputs) -> dict[str, np.ndarray]:
            assert [tensor["name"] for tensor in known["inputs"]] == [each.name for each in session.get_inputs()]
            given = {tensor["name"]: inputs[tensor["name"]] for tensor in known["inputs"]}
            return dict(zip(outputs, session.run(outputs, given), strict=True))

        self.__dict__[name] = run
        return run


def as_pixels(picture: np.ndarray) -> np.ndarray:
    return (picture[None].transpose(0, 3, 1, 2) / 255).astype(np.float32)


def animate(pipe, graphs: Graphs, aligned, recording, motion: HeadMotion, weights: dict[str, float], seed: int):
    """Frames (F, S, S, 3) uint8, in batches of different sizes; of the pipeline only what draws and listens is used."""
    facts, frames = graphs.facts, len(motion)
    seen = graphs.portrait(picture=as_pixels(aligned.crop))
    detailed = as_pixels(aligned.detailed)
    drawn = graphs.encoder(detailed=detailed)
    # what is said
    encoder, waveform = pipe.speech_encoder, torch.from_numpy(recording.waveform)
    rows = encoder.features(waveform)[None].numpy()
    shapes = next(graph for graph in facts["graphs"] if graph["file"] == "speech.onnx")["inputs"]
    state = {each["name"]: np.zeros(each["shape"], np.float32) for each in shapes if each["name"] != "rows"}
    scores = []
    for part in np.array_split(rows, 2, 1):  # as it comes
        heard = graphs.speech(rows=part, **state)
        state = {name: heard[f"{name}_now"] for name in state}
        scores.append(heard["scores"])
    scores = torch.from_numpy(np.concatenate(scores, 1)[:, facts["speech_delay"] :])
    semantic = semantic_windows(scores, len(waveform) / 16000, facts["speech_window"])[0].numpy()
    semantic = np.concatenate([semantic, semantic[-1:]])[:frames]
    mel = log_mel(waveform).numpy()[:frames]
    around = facts["window"] // 2
    semantic, mel = (
        np.concatenate([before := np.repeat(np.float32([facts[name]]), around, 0), part, before])
        for name, part in (("semantic_padding", semantic), ("mel_padding", mel))
    )
    # how the head moves
    angles = torch.stack([motion.yaw, motion.pitch, motion.roll], 1).numpy() + seen["angles"]
    translation = motion.translation.numpy() + seen["translation"]
    rotation = pose_picture_rotation(*(logits_from_degrees(torch.from_numpy(angle)) for angle in angles.T))
    pictures = pose_pictures(rotation, torch.from_numpy(translation)).numpy()
    pictures = pictures[np.arange(-around, frames + around).clip(0, frames - 1)]
    # what is felt
    count = len(facts["emotions"])
    noise = torch.randn(count, pipe.emotion_mapper.config.latent, generator=torch.Generator().manual_seed(seed)).numpy()
    felt = graphs.emotion(noise=noise, prediction_map=seen["prediction_map"])
    made = []
    for index in np.array_split(np.arange(frames), 3):
        near = slice(index[0], index[-1] + 2 * around + 1)
        own = {"angles": angles[index], "translation": translation[index]}
        expression, guidance = 0, 0
        for name, weight in weights.items():
            emotion = facts["emotions"].index(name)
            one = {part: values[emotion] for part, values in felt.items()}
            heard = {"semantic": semantic[near], "mel": mel[near], "pose_pictures": pictures[near]}
            expression += weight * graphs.expression(**heard, **own, **one)["expression"]
            guidance += weight * np.repeat(one["prompts"][:1], len(index), 0)
        given = {"canonical": seen["canonical"], "scale": seen["scale"], "expression": expression}
        eyes = {"blink": motion.blink.numpy()[index], "gaze": motion.gaze.numpy()[index]}
        driving = graphs.keypoints(**given, **own, **eyes)["driving"]
        given = {"detailed": detailed, **drawn, "keypoints": seen["keypoints"], "driving": driving}
        made.append(graphs.renderer(**given, guidance=np.float32(guidance))["frames"])
    return np.concatenate(made)


def differences(pipe, folder: Path, portrait, sound, size: int, motion: HeadMotion) -> np.ndarray:
    weights = {"happy": 0.75, "sad": 0.25}
    recording = read_audio(sound)
    plan = pipe.plan_clip(portrait, recording, weights, head_motion=motion, generator=5, size=size)
    expected = np.concatenate(list(pipe.render_clip(plan)))
    recording = read_audio(sound)
    made = animate(pipe, Graphs(folder), plan.portrait.aligned, recording, motion, weights, 5)
    assert made.shape == expected.shape == (recording.num_frames, size, size, 3) and made.dtype == np.uint8
    assert (expected[0] != expected[-1]).any()
    return np.abs(made.astype(int) - expected.astype(int))


def moving(frames: int) -> HeadMotion:
    return HeadMotion.natural(frames, torch.rand(frames), torch.Generator().manual_seed(2))


def test_frames_of_the_graphs_are_those_of_the_pipeline(pipeline, portrait, tmp_path):
    folder = tmp_path / "model"
    export_onnx(pipeline.networks, folder)
    sound = voice(0.3), 16000
    assert differences(pipeline, folder, portrait, sound, 256, moving(8)).max() <= 2
    page = (folder / "README.md").read_text()
    assert all(name in page for path in folder.glob("*.onnx") for name in (path.name,))
    (folder / "mine.txt").write_text("stays")
    with pytest.raises(KeyboardInterrupt):
        export_onnx(pipeline.networks, folder, stopping)
    assert len(list(tmp_path.iterdir())) == 1 and len(list(folder.glob("*.onnx"))) == 7


def stopping(graphs):
    yield graphs[0]
    raise KeyboardInterrupt


def test_only_models_of_the_bundled_kind_are_exported(tiny_pipeline, tmp_path):
    with pytest.raises(UserError, match="keypoint_detector is CanonicalKeypointDetector, not LandmarkDetector"):
        export_onnx(tiny_pipeline.networks, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_stays(pipeline, tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(UserError, match="holds something else"):
        export_onnx(pipeline.networks, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_the_volume_of_a_hull_by_planes():
    points = torch.randn(3, 14, 3, generator=torch.Generator().manual_seed(0))
    expected = [ConvexHull(part.double().numpy()).volume for part in points]
    np.testing.assert_allclose(hull_volume(points).numpy(), expected, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [256, 512])
def test_frames_of_the_bundled_model_are_those_of_the_pipeline(size, portrait, tmp_path):
    pipe = EATPipeline.from_pretrained("eat-demo")
    pipe.set_progress_bar_config(disable=True)
    export_onnx(pipe.networks, tmp_path / "model")
    assert differences(pipe, tmp_path / "model", portrait, (voice(0.5), 16000), size, moving(13)).max() <= 2
