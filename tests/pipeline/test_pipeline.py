import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import scipy.io.wavfile
import torch
from conftest import build_tiny_pipeline, voice
from media_files import tracks, written
from PIL import Image

from eat_hf import DetailRenderer, EATPipeline, HeadMotion
from eat_hf import keypoints as kp
from eat_hf.animation.clip_plan import drive_keypoints
from eat_hf.animation.expression import EmotionMix, draw_prompts, move_eyes, predict_expression
from eat_hf.animation.head_pose import pose_head
from eat_hf.animation.pose_pictures import pose_pictures
from eat_hf.constants import FPS
from eat_hf.errors import UserError
from eat_hf.inputs.audio import frame_windows
from eat_hf.inputs.faces import PasteBack
from eat_hf.media.recordings import read_audio
from eat_hf.media.videos import read_video, write_video
from eat_hf.pipeline.arguments import ClipOptions

RATE = 16000


@pytest.fixture(scope="module")
def audio():
    return voice(0.24), RATE  # 6 frames


@pytest.fixture(scope="module")
def happy(tiny_pipeline, portrait, audio):
    return tiny_pipeline(portrait, audio, "happy", generator=1)


@pytest.fixture(scope="module")
def prepared(tiny_pipeline, portrait, audio):
    """Portrait, speech, prompts and pose as the pipeline's steps see them."""
    pipe = tiny_pipeline
    seen, speech = pipe.prepare_portrait(portrait), pipe.encode_audio(read_audio(audio))
    prompts = draw_prompts(pipe.networks, [pipe.networks.own], torch.Generator().manual_seed(1))
    motion = pipe.prepare_motion("natural", 6, speech.energy, torch.Generator().manual_seed(2))
    return seen, speech, prompts, pose_head(seen, motion)


def difference(a, b):
    return np.abs(a.astype(int) - b).max()


# What comes out


def test_output_types_agree_and_save_the_same_video(tiny_pipeline, portrait, audio, happy, tmp_path):
    assert happy.frames.shape == (6, 256, 256, 3) and happy.frames.dtype == np.uint8
    assert happy.fps == 25 and happy.sampling_rate == RATE and happy.audio.shape == (1, len(audio[0]))
    pil = tiny_pipeline(portrait, audio, "happy", generator=1, output_type="pil")
    pt = tiny_pipeline(portrait, audio, "happy", generator=1, output_type="pt")
    assert isinstance(pil.frames[0], Image.Image) and difference(np.stack(pil.frames), happy.frames) <= 1
    assert pt.frames.shape == (6, 3, 256, 256) and 0 <= pt.frames.min() and pt.frames.max() <= 1
    assert difference((pt.frames * 255).round().permute(0, 2, 3, 1).numpy(), happy.frames) <= 1
    decoded = []
    for output in (happy, pil, pt):
        output.save(tmp_path / "out.mp4")
        decoded.append(np.stack(list(read_video(tmp_path / "out.mp4"))))
    assert decoded[0].shape == happy.frames.shape
    assert np.corrcoef(decoded[0].ravel(), happy.frames.ravel())[0, 1] > 0.9
    assert difference(decoded[1], decoded[0]) <= 3 and difference(decoded[2], decoded[0]) <= 3


def test_a_files_track_can_be_chosen_and_its_tags_stay(tiny_pipeline, portrait, audio, happy, tmp_path):
    sounds = [(0.5 * audio[0][None], RATE, "flac", "mono"), (audio[0][None], RATE, "flac", "mono")]
    path = written(tmp_path / "voices.mkv", tracks(sounds, tags={"title": "Prélude", "artist": "Zoë"}))
    out = tiny_pipeline(portrait, path, "happy", generator=1, audio_track=1)
    np.testing.assert_allclose(out.audio[0], audio[0], atol=1e-3)
    assert difference(out.frames, happy.frames) <= 1
    first = next(tiny_pipeline.stream(portrait, path, "happy", generator=1, audio_track=0))
    assert difference(first, next(tiny_pipeline.stream(portrait, path, "happy", generator=1))) == 0
    out.save(tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        stated = container.metadata
    assert stated["title"] == "Prélude" and stated["artist"] == "Zoë" and "AI-generated" in stated["comment"]
    with pytest.raises(UserError, match="no audio track 2"):
        tiny_pipeline(portrait, path, audio_track=2)
    with pytest.raises(UserError, match="of a file"):
        tiny_pipeline(portrait, audio, audio_track=1)


@pytest.mark.parametrize(("seconds", "frames"), [(0.2, 5), (0.201, 6), (0.3333, 9)])
def test_the_video_is_as_long_as_the_recording(tiny_pipeline, portrait, tmp_path, seconds, frames):
    output = tiny_pipeline(portrait, (voice(seconds, 44100), 44100), head_motion="still", generator=0)
    assert len(output.frames) == frames
    output.save(tmp_path / "out.mp4")
    with av.open(str(tmp_path / "out.mp4")) as container:
        video, sound = container.streams.video[0], container.streams.audio[0]
        lengths = [float(stream.duration * stream.time_base) for stream in (video, sound)]
    assert lengths[0] == pytest.approx(frames / FPS) and abs(lengths[1] - seconds) < 1 / FPS


def test_batch_size_changes_no_frame(tiny_pipeline, portrait, audio, happy):
    for batch_size in (1, 4):
        other = tiny_pipeline(portrait, audio, "happy", generator=1, batch_size=batch_size)
        assert difference(other.frames, happy.frames) <= 1


def test_stream_gives_the_same_frames_in_chunks(tiny_pipeline, portrait, audio, happy):
    chunks = list(tiny_pipeline.stream(portrait, audio, emotion="happy", generator=1, batch_size=4))
    assert [len(chunk) for chunk in chunks] == [4, 2] and chunks[0].dtype == np.uint8
    assert difference(np.concatenate(chunks), happy.frames) <= 1


def test_the_seed_decides(tiny_pipeline, portrait, audio, happy):
    again = tiny_pipeline(portrait, audio, "happy", generator=torch.Generator().manual_seed(1))
    other = tiny_pipeline(portrait, audio, "happy", generator=2)
    assert difference(again.frames, happy.frames) <= 1 and difference(other.frames, happy.frames) > 20


def test_what_the_user_asks_for_shows(tiny_pipeline, portrait, audio, happy):
    for options in ({"emotion": "sad"}, {"intensity": 0.5}, {"head_motion": "still"}):
        other = tiny_pipeline(portrait, audio, **{"emotion": "happy", "generator": 1, **options})
        assert difference(other.frames, happy.frames) > 20
    louder = tiny_pipeline(portrait, (voice(0.24)[::-1].copy(), RATE), "happy", generator=1, head_motion="still")
    still = tiny_pipeline(portrait, audio, "happy", generator=1, head_motion="still")
    assert difference(louder.frames, still.frames) > 3


def test_inputs_of_every_form_are_the_same(tiny_pipeline, portrait, portrait_file, audio, happy):
    for image in (str(portrait_file), portrait_file, Image.fromarray(portrait)):
        assert difference(tiny_pipeline(image, audio, {"happy": 3.0}, generator=1).frames, happy.frames) <= 1


def test_paste_back_animates_the_whole_picture(tiny_pipeline, portrait, audio, happy):
    pasted = tiny_pipeline(portrait, audio, "happy", generator=1, paste_back=True).frames
    assert pasted.shape == (6, 512, 512, 3)
    paste = PasteBack(portrait, tiny_pipeline.prepare_portrait(portrait).aligned.matrix)
    assert (pasted[:, paste.mask == 0] == portrait[paste.mask == 0]).all()
    assert difference(pasted[3], paste(happy.frames[3])) <= 2


@pytest.fixture(scope="module")
def detailed(tiny_pipeline):
    """The tiny pipeline with a renderer of the bundled kind."""
    torch.manual_seed(0)
    own = dict(keypoints=6, rigid_keypoints=(0, 1, 2, 3), inner_mouth=(2, 3, 4, 5), guidance=16, teeth=2)
    channels = dict(encoder_channels=(4, 8), volume_channels=4, volume_depth=2, hourglass_channels=(4, 8))
    renderer = DetailRenderer(**own, **channels, feature_channels=4, mouth_channels=(4, 4), mouth_details=2).eval()
    return EATPipeline(**{**tiny_pipeline.components, "repos_net": renderer})


@pytest.mark.parametrize(
    ("size", "side"), [(None, 512), (256, 256), (512, 512), (1024, 1024), ("portrait", 512)], ids=str
)
def test_frames_have_the_size_that_was_asked_for(detailed, portrait, audio, size, side):
    detailed.set_progress_bar_config(disable=True)
    picture = np.kron(portrait, np.ones((2, 2, 1), np.uint8)) if size == "portrait" else portrait
    frames = detailed(picture, audio, generator=1, size=size).frames
    if size == "portrait":
        side = len(detailed.prepare_portrait(picture, size=size).aligned.detailed)
        assert 300 < side < 1024
    assert frames.shape == (6, side, side, 3)
    small = detailed(picture, audio, generator=1, size=256).frames
    again = np.stack([cv2.resize(frame, (256, 256), interpolation=cv2.INTER_AREA) for frame in frames])
    assert np.abs(again.astype(int) - small).mean() < 3  # the same motion at every size


def test_a_large_face_is_pasted_back_as_sharp_as_it_was(detailed, portrait, audio):
    picture = cv2.resize(portrait, (1024, 1024), interpolation=cv2.INTER_CUBIC)
    picture = (picture * np.where(np.indices((1024, 1024)).sum(0) // 3 % 2, 1.0, 0.8)[..., None]).astype(np.uint8)
    rows, columns = np.where(PasteBack(picture, detailed.prepare_portrait(picture).aligned.matrix).mask > 0.9)
    face = slice(rows.min(), rows.max()), slice(columns.min(), columns.max())

    def detail(frame):
        return np.abs(np.diff(frame[face].astype(int), axis=1)).mean()

    own, small = (
        detailed(picture, audio, generator=1, paste_back=True, head_motion="still", size=size).frames
        for size in (None, 256)
    )
    assert own.shape == small.shape == (6, 1024, 1024, 3)
    assert 1.2 * detail(small[0]) < detail(own[0]) > 0.65 * detail(picture)


def test_a_published_model_makes_frames_of_256_alone(tiny_pipeline, portrait, audio):
    assert tiny_pipeline(portrait, audio, generator=1, size=256).frames.shape[1:] == (256, 256, 3)
    with pytest.raises(UserError, match="This model makes frames of 256 x 256 pixels"):
        tiny_pipeline(portrait, audio, size=512)
    for wrong in (300, True, "large", 512.5, [512]):
        with pytest.raises(UserError, match="The size of frames is 256, 512, 1024 or portrait"):
            ClipOptions(size=wrong)


# The steps


def mix_of(pipe, prompts, weights):
    return EmotionMix((pipe.networks.own,), prompts, weights)


def test_expression_is_what_the_networks_say_of_whole_windows(tiny_pipeline, prepared):
    """Against `A2ET.forward` on windows laid out one by one, as in training."""
    pipe, (portrait, speech, prompts, pose) = tiny_pipeline, prepared
    angles = [kp.logits_from_degrees(angle)[None] for angle in (pose.yaw, pose.pitch, pose.roll)]
    pictures = pose_pictures(kp.pose_picture_rotation(*angles)[0], pose.translation)
    happy = prompts[4, None]
    with torch.no_grad():
        predicted = pipe.a2et(
            frame_windows(speech.semantic, 5, pipe.a2et.semantic_padding)[None],
            frame_windows(speech.mel, 5, pipe.a2et.mel_padding)[None],
            frame_windows(pictures, 5)[None],
            *angles,
            pose.translation[None],
            portrait.prediction_map,
            happy,
        )
        emotional = pipe.edn(predicted.face_features, happy).expression
        expected = pipe.expression_basis(predicted.coefficients)[0] + emotional
    expected = expected * kp.hull_volume(portrait.canonical)
    weights = torch.zeros(6, 8)
    weights[:, 4] = 1
    for batch_size in (1, 8):
        given = predict_expression(pipe.networks, portrait, speech, pose, mix_of(pipe, prompts, weights), batch_size)
        torch.testing.assert_close(given, expected, rtol=1e-4, atol=1e-5)


def test_emotions_mix_linearly_and_extrapolate(tiny_pipeline, prepared):
    portrait, speech, prompts, pose = prepared

    def expression(**shares):
        weights = torch.zeros(6, 8)
        for name, share in shares.items():
            weights[:, tiny_pipeline.emotions.index(name)] = torch.as_tensor(share)
        mix = mix_of(tiny_pipeline, prompts, weights)
        return predict_expression(tiny_pipeline.networks, portrait, speech, pose, mix)

    happy, sad, neutral = (expression(**{name: 1.0}) for name in ("happy", "sad", "neutral"))
    assert (happy - sad).abs().max() > 1e-3
    torch.testing.assert_close(expression(happy=0.7, sad=0.3), 0.7 * happy + 0.3 * sad)
    torch.testing.assert_close(expression(happy=1.5, neutral=-0.5), 1.5 * happy - 0.5 * neutral)
    fade = torch.linspace(0, 1, 6)  # at the ends, one of the two is not even computed
    torch.testing.assert_close(expression(happy=fade, sad=1 - fade), torch.lerp(sad, happy, fade[:, None]))


def test_no_emotion_is_the_network_before_adaptation(tiny_pipeline, prepared, portrait, audio, happy):
    pipe, (seen, speech, _, pose) = tiny_pipeline, prepared
    got = predict_expression(pipe.networks, seen, speech, pose, None)
    angles = [kp.logits_from_degrees(a)[None] for a in (pose.yaw, pose.pitch, pose.roll)]
    pictures = pose_pictures(kp.pose_picture_rotation(*[a[0] for a in angles]), pose.translation)
    outside = pipe.a2et.semantic_padding.expand(5, -1, -1)
    semantic = torch.cat([outside, speech.semantic, outside]).unfold(0, 11, 1).permute(0, 3, 1, 2)
    mel = frame_windows(speech.mel, 5, pipe.a2et.mel_padding)
    out = pipe.a2et(
        semantic[None],
        mel[None],
        frame_windows(pictures, 5)[None],
        *angles,
        pose.translation[None],
        seen.prediction_map,
    )
    expected = pipe.expression_basis(out.coefficients[0]) * kp.hull_volume(seen.canonical)
    assert torch.allclose(got, expected, atol=1e-5)
    plain = pipe(portrait, audio, None, generator=1)
    assert plain.frames.shape == happy.frames.shape and difference(plain.frames, happy.frames) > 0


def test_guidance_is_constant_unless_the_emotion_changes(tiny_pipeline, prepared):
    prompts = prepared[2]
    constant = torch.eye(8)[[4] * 6]
    assert torch.equal(mix_of(tiny_pipeline, prompts, constant).guidance(), prompts[4:5, 0])
    changing = torch.lerp(torch.eye(8)[[4] * 3], torch.eye(8)[[6] * 3], torch.tensor([[0.0], [0.5], [1.0]]))
    mixed = mix_of(tiny_pipeline, prompts, changing).guidance()
    assert mixed.shape == (1, 3, 16)
    torch.testing.assert_close(mixed[0], torch.stack([prompts[4, 0], prompts[[4, 6], 0].mean(0), prompts[6, 0]]))


def test_prompts_of_an_emotion_depend_on_the_seed_alone(tiny_pipeline):
    networks = tiny_pipeline.networks
    first, again, other = (draw_prompts(networks, [networks.own], torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert torch.equal(first, again) and not torch.allclose(first, other)
    assert not torch.allclose(first[0], first[1])


@pytest.mark.parametrize("space", ["canonical", "posed"])
@pytest.mark.parametrize("frame", ["camera", "head"])
@pytest.mark.parametrize("centring", ["clip", "none"])
def test_the_portraits_own_pose_and_expression_reproduce_it(portrait, space, frame, centring):
    pipe = build_tiny_pipeline(keypoint_space=space, expression_frame=frame, driving_centring=centring)
    seen = pipe.prepare_portrait(portrait)
    pose = pose_head(seen, HeadMotion.still(3))
    driving = drive_keypoints(pipe.expression_basis, seen, pose, seen.motion.expression.expand(3, -1))
    torch.testing.assert_close(driving, seen.keypoints[:, None].expand(-1, 3, -1, -1), rtol=1e-4, atol=1e-4)
    turned = pose_head(seen, HeadMotion(torch.full((3,), 20.0), *torch.zeros(2, 3), torch.zeros(3, 3)))
    assert (
        drive_keypoints(pipe.expression_basis, seen, turned, seen.motion.expression.expand(3, -1)) - driving
    ).abs().max() > 0.05


def test_clip_centring_keeps_the_portraits_middle(tiny_pipeline, prepared):
    portrait, _, _, pose = prepared
    driving = drive_keypoints(tiny_pipeline.expression_basis, portrait, pose, torch.rand(6, 18))
    torch.testing.assert_close(driving.mean((1, 2)), portrait.keypoints.mean(1))


def test_absolute_motion_replaces_the_portraits_pose(tiny_pipeline, prepared):
    portrait = prepared[0]
    motion = HeadMotion(torch.full((2,), 9.0), *torch.zeros(2, 2), torch.zeros(2, 3), relative=False)
    assert pose_head(portrait, motion).yaw.tolist() == [9, 9]
    motion.relative = True
    torch.testing.assert_close(pose_head(portrait, motion).yaw, (9 + portrait.motion.yaw).expand(2))


def test_hull_volume_scales_the_expression(portrait, prepared):
    _, speech, _, pose = prepared
    weights = torch.eye(8)[[4] * 6]
    expressions = {}
    for exponent in (1.0, 1 / 3):
        pipe = build_tiny_pipeline(hull_volume_exponent=exponent)
        seen = pipe.prepare_portrait(portrait)
        prompts = draw_prompts(pipe.networks, [pipe.networks.own], torch.Generator().manual_seed(1))
        mix = mix_of(pipe, prompts, weights)
        expressions[exponent] = predict_expression(pipe.networks, seen, speech, pose, mix)
    ratio = kp.hull_volume(seen.canonical) ** (2 / 3)
    torch.testing.assert_close(expressions[1.0], expressions[1 / 3] * ratio)


# Driving videos


def test_blinks_shut_the_eyes_of_models_that_know_how(portrait, audio, prepared):
    deformation = torch.linspace(-0.1, 0.1, 18)
    options = {"hull_volume_exponent": 0.5, "driving_centring": "none"}
    blinking = build_tiny_pipeline(**options, blink_deformation=deformation.tolist())
    still = HeadMotion.still(3)
    shut = HeadMotion(still.yaw, still.pitch, still.roll, still.translation, blink=torch.tensor([0.0, 0.5, 1.0]))
    face = prepared[0]
    added = move_eyes(blinking.expression_basis, face, shut)
    full = deformation * kp.hull_volume(face.canonical) ** 0.5
    assert torch.allclose(added, torch.stack([0 * full, 0.5 * full, full]), atol=1e-6)
    frames = [blinking(portrait, audio, head_motion=motion, generator=0).frames for motion in (still, shut)]
    changed = np.abs(frames[0].astype(int) - frames[1]).max((1, 2, 3))
    assert changed[0] == 0 and changed[2] > 0


def test_gaze_turns_the_eyes_of_models_that_know_how(portrait, audio, prepared):
    right, up = torch.linspace(-0.01, 0.01, 18), torch.linspace(0, 0.02, 18)
    options = {"hull_volume_exponent": 0.5, "driving_centring": "none"}
    looking = build_tiny_pipeline(**options, gaze_deformation=[right.tolist(), up.tolist()])
    still = HeadMotion.still(3)
    turned = replace(still, gaze=torch.tensor([[0.0, 0.0], [10.0, 0.0], [-4.0, 8.0]]), blink=torch.ones(3))
    face = prepared[0]
    size = kp.hull_volume(face.canonical) ** 0.5
    expected = torch.stack([0 * right, 10 * right, 8 * up - 4 * right]) * size
    assert torch.allclose(move_eyes(looking.expression_basis, face, turned), expected, atol=1e-6)
    frames = [looking(portrait, audio, head_motion=motion, generator=0).frames for motion in (still, turned)]
    changed = np.abs(frames[0].astype(int) - frames[1]).max((1, 2, 3))
    assert changed[0] == 0 and changed[2] > 0


def test_head_motion_from_a_video(tiny_pipeline, portrait, audio, tmp_path):
    frames = np.stack([portrait] * 2 + [np.roll(portrait, 4 * i, axis=0) for i in range(6)])
    write_video(tmp_path / "driving.mp4", frames)
    motion = tiny_pipeline.motion_from_video(tmp_path / "driving.mp4", batch_size=3)
    assert len(motion) == 8 and motion.relative
    assert motion.yaw[0] == 0 and motion.translation[0].tolist() == [0, 0, 0]
    assert motion.translation.abs().sum() > 0
    tiny_pipeline.motion_from_video(tmp_path / "driving.mp4", max_frames=3)
    by_path = tiny_pipeline(portrait, audio, "happy", head_motion=str(tmp_path / "driving.mp4"), generator=1)
    motion.save(tmp_path / "motion.safetensors")
    by_file = tiny_pipeline(portrait, audio, "happy", head_motion=tmp_path / "motion.safetensors", generator=1)
    by_object = tiny_pipeline(portrait, audio, "happy", head_motion=motion, generator=1)
    # a video is read only as far as the recording reaches, so its end is smoothed a little differently
    assert difference(by_path.frames[:4], by_object.frames[:4]) <= 8
    assert difference(by_file.frames, by_object.frames) == 0


def test_a_driving_video_without_a_face(tiny_pipeline, tmp_path):
    write_video(tmp_path / "driving.mp4", np.full((2, 16, 256, 3), 90, np.uint8))
    with pytest.raises(UserError, match="No face was found in the first two seconds"):
        tiny_pipeline.motion_from_video(tmp_path / "driving.mp4")


def test_data_that_was_cropped_before(tiny_pipeline, portrait, audio, tmp_path):
    crop = tiny_pipeline.prepare_portrait(portrait).aligned.crop
    write_video(tmp_path / "still.mp4", np.stack([crop] * 3))
    assert (tiny_pipeline.prepare_portrait(crop, align=False).aligned.crop == crop).all()
    out = tiny_pipeline(crop, audio, head_motion=tmp_path / "still.mp4", generator=1, align=False)
    assert out.frames.shape == (6, 256, 256, 3)
    for picture, video, words in ((portrait, "still", "the portrait"), (crop, tmp_path / "large.mp4", "driving video")):
        write_video(tmp_path / "large.mp4", np.stack([portrait] * 2))
        with pytest.raises(UserError, match=f"{words}.* must be 256 x 256 pixels, not 512 x 512"):
            tiny_pipeline(picture, audio, head_motion=video, align=False)


def test_amounts_of_motion(tiny_pipeline, portrait, audio):
    def frames(**options):
        return tiny_pipeline(portrait, audio, generator=1, **options).frames

    still, usual = frames(head_motion="still"), frames()
    assert difference(frames(head_amount=0, blinks=0, gaze=0), still) == 0 and difference(usual, still) > 0
    turning = HeadMotion(torch.linspace(0, 20, 6), *torch.zeros(2, 6), torch.zeros(6, 3))
    half = HeadMotion(torch.linspace(0, 10, 6), *torch.zeros(2, 6), torch.zeros(6, 3))
    assert difference(frames(head_motion=turning, head_amount=0.5), frames(head_motion=half)) <= 1


def test_a_real_driving_video(tiny_pipeline, real_inputs):
    motion = tiny_pipeline.motion_from_video(real_inputs / "driving_9s.mp4", max_frames=10)
    assert len(motion) == 10 and motion.yaw.isfinite().all()


# Loading, saving, mistakes


def test_saved_and_loaded(tiny_pipeline, tiny_model, portrait, audio, happy):
    index = json.loads((tiny_model / "model_index.json").read_text())
    assert index["a2et"] == ["eat_hf", "A2ET"]
    assert not [path for path in Path(tiny_model).rglob("*") if path.suffix in (".bin", ".pt", ".pth")]
    loaded = EATPipeline.from_pretrained(tiny_model)
    loaded.set_progress_bar_config(disable=True)
    assert loaded.emotions == tiny_pipeline.emotions and len(loaded.emotions) == 8
    assert difference(loaded(portrait, audio, "happy", generator=1).frames, happy.frames) <= 1


def test_options_are_saved(tmp_path):
    template = [[float(i), 2.0 * i] for i in range(68)]
    options = {
        "keypoint_space": "posed",
        "expression_frame": "head",
        "hull_volume_exponent": 1 / 3,
        "driving_centring": "none",
        "template_landmarks": template,
        "driving_crop_scale": 1.8,
        "blink_deformation": [0.25] * 18,
        "gaze_deformation": [[0.25] * 18, [0.5] * 18],
    }
    build_tiny_pipeline(**options).save_pretrained(tmp_path)
    loaded = EATPipeline.from_pretrained(tmp_path)
    found = loaded.keypoint_detector.config | loaded.motion_estimator.config | loaded.expression_basis.config
    for name, value in options.items():
        assert found[name] == value


def test_a_release_without_speech_encoder_loads_and_says_so(tmp_path, portrait, audio):
    pipe = build_tiny_pipeline()
    pipe.register_modules(speech_encoder=None)
    pipe.save_pretrained(tmp_path)
    with pytest.raises(UserError, match="speech encoder"):
        EATPipeline.from_pretrained(tmp_path)(portrait, audio)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"keypoint_space": "flat"}, "keypoint_space"),
        ({"expression_frame": "world"}, "expression_frame"),
        ({"driving_centring": "maybe"}, "driving_centring"),
        ({"template_landmarks": [[0, 0]]}, "template_landmarks"),
        ({"blink_deformation": [0.1, 0.2]}, "blink_deformation must be 18 numbers"),
        ({"gaze_deformation": [0.1] * 36}, "gaze_deformation must be twice 18 numbers"),
        ({"gaze_deformation": [[0.1] * 18]}, "gaze_deformation must be twice 18 numbers"),
    ],
)
def test_wrong_options_are_refused(option, words):
    with pytest.raises(ValueError, match=words):
        build_tiny_pipeline(**option)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"image": np.full((30, 300, 3), 120, np.uint8)}, "No face"),
        ({"image": "none.png"}, "does not exist"),
        ({"audio": "none.wav"}, "does not exist"),
        ({"audio": (voice(0.1), RATE)}, "0.10 s"),
        ({"emotion": "joyful"}, "Unknown emotion 'joyful'"),
        ({"intensity": 2}, "intensity"),
        ({"head_motion": "none.mp4"}, "does not exist"),
        ({"head_motion": 3}, "head_motion"),
        ({"batch_size": 0}, "batch_size"),
        ({"face": 1}, "no face number 1"),
    ],
)
def test_mistakes_are_user_errors_before_the_first_frame(tiny_pipeline, portrait, audio, options, words):
    with pytest.raises(UserError, match=words):
        tiny_pipeline.stream(**{"image": portrait, "audio": audio, **options})


def test_wrong_output_type(tiny_pipeline, portrait, audio):
    with pytest.raises(ValueError, match="output_type"):
        tiny_pipeline(portrait, audio, output_type="gif")


def test_silence_is_animated_too(tiny_pipeline, portrait):
    frames = tiny_pipeline(portrait, (np.zeros(3200, np.float32), RATE), generator=0).frames
    assert frames.shape == (5, 256, 256, 3)


LONG_RECORDING = """
import sys
from eat_hf import EATPipeline
from eat_hf.benchmark import peak_megabytes
from eat_hf.media.recordings import read_audio
from eat_hf.media.videos import VideoWriter
model, portrait, voice, output = sys.argv[1:]
pipe = EATPipeline.from_pretrained(model)
recording = read_audio(voice)
chunk = next(pipe.stream(portrait, recording, emotion="happy", head_motion="natural", generator=0))
with VideoWriter(output, recording) as video:
    for frame in range(recording.num_frames):
        video.write(chunk[:1, :64, :64])
print(peak_megabytes())
"""


@pytest.mark.slow
def test_long_recordings_need_little_more_memory(tiny_pipeline, portrait_file, tmp_path):
    """Three minutes of stereo against twelve seconds: everything but rendering, whose frames are handed out at once."""
    tiny_pipeline.save_pretrained(tmp_path / "model")
    config = tmp_path / "model" / "expression_basis" / "config.json"  # without the centring that needs all frames first
    config.write_text(config.read_text().replace('"driving_centring": "clip"', '"driving_centring": "none"'))
    peaks = []
    for seconds in (12, 180):
        sound = tmp_path / f"{seconds}.wav"
        samples = np.resize((voice(4, 48000) * 32767).astype(np.int16), seconds * 48000)
        scipy.io.wavfile.write(sound, 48000, np.stack([samples] * 2, 1))
        arguments = [tmp_path / "model", portrait_file, sound, tmp_path / f"{seconds}.mp4"]
        done = subprocess.run([sys.executable, "-c", LONG_RECORDING, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peaks.append(float(done.stdout.split()[-1]))
        assert sum(1 for _ in read_video(tmp_path / f"{seconds}.mp4")) == 25 * seconds
    assert peaks[1] < 1.1 * peaks[0], peaks


@pytest.fixture
def compiled():
    """A pipeline compiled by a backend that leaves graphs as they are, and those graphs."""
    graphs = []

    def keep(graph, example_inputs):
        graphs.append(graph)
        return graph.forward

    torch.compiler.reset()
    yield build_tiny_pipeline().compile(backend=keep, fullgraph=True), graphs
    torch.compiler.reset()


def test_a_compiled_renderer_makes_the_same_frames(compiled, tiny_pipeline, portrait, audio, happy, tmp_path):
    pipe, graphs = compiled
    assert difference(pipe(portrait, audio, "happy", generator=1).frames, happy.frames) <= 1
    assert len(graphs) >= 3  # motion, features, decoder, each as a whole
    mixture = {"happy": 0.5, "sad": 0.5}
    plain = tiny_pipeline(portrait, audio, mixture, generator=1, batch_size=4).frames
    assert difference(pipe(portrait, audio, mixture, generator=1, batch_size=4).frames, plain) <= 1
    pipe.save_pretrained(tmp_path)
    again = EATPipeline.from_pretrained(tmp_path)
    assert again.repos_net.state_dict().keys() == tiny_pipeline.repos_net.state_dict().keys()


@pytest.mark.slow
def test_a_renderer_compiled_for_this_machine_makes_the_same_frames(portrait, audio, happy):
    frames = build_tiny_pipeline().compile()(portrait, audio, "happy", generator=1).frames
    assert difference(frames, happy.frames) <= 2
