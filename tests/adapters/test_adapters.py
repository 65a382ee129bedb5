"""Emotion adapters: their folders, and what a pipeline does with them."""

import json
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from conftest import build_tiny_pipeline, voice
from safetensors.torch import load_file, save_file

import eat_hf
from eat_hf import EATPipeline
from eat_hf.adapters.emotion_adapter import CONFIG, WEIGHTS, EmotionAdapter
from eat_hf.adapters.fingerprint import adaptation_parts, fingerprint
from eat_hf.animation.expression import EmotionMix, draw_prompts, predict_expression
from eat_hf.animation.head_pose import pose_head
from eat_hf.animation.networks import MixedEAM
from eat_hf.errors import InputWarning, UserError

pytestmark = pytest.mark.usefixtures("faces_found_once")

AUDIO = voice(0.2), 16000  # 5 frames
OWN = ("angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised")


@torch.no_grad()
def make_adapter(pipe, *emotions, seed):
    """One whose every part differs from the base's, the renderer's EAM and EDN included."""
    adapter = EmotionAdapter.create(pipe.base, emotions, "happy", {"steps": 3})
    generator = torch.Generator().manual_seed(seed)
    parameters = {
        f"{part}.{name}": p for part, module in adapter.parts.items() for name, p in module.named_parameters()
    }
    for name, tensor in parameters.items():
        scale = 0.3 if "eam" in name or name.startswith("edn.head") else 0.02
        tensor += scale * torch.randn(tensor.shape, generator=generator)
    for head in adapter.parts["emotion_mapper.heads"]:
        head[-1].bias.normal_(generator=generator)
    return adapter


@pytest.fixture(scope="module")
def base():
    """A base whose own EAMs do something, too."""
    pipe = build_tiny_pipeline()
    with torch.no_grad():
        for name, part in adaptation_parts(pipe).items():
            if "eam" in name:
                part.expand.weight.normal_(0, 0.3)
    return pipe


@pytest.fixture(scope="module")
def model(base, tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    base.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(base, tmp_path_factory):
    """Adapters smirk and wince, and one of two emotions."""
    folder = tmp_path_factory.mktemp("adapters")
    for seed, emotions in enumerate([("smirk",), ("wince",), ("bored", "dreamy")], 1):
        make_adapter(base, *emotions, seed=seed).save(folder / emotions[0])
    return folder


@pytest.fixture
def pipe(base, model):
    """A pipeline of its own, which a test may load into."""
    pipe = EATPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def crop(base, portrait):
    return base.prepare_portrait(portrait).aligned.crop


def frames(pipe, crop, emotion, **options):
    """The first two, of a clip whose motion is computed as a whole."""
    return next(pipe.stream(crop, AUDIO, emotion=emotion, generator=1, align=False, batch_size=2, **options))


def difference(a, b):
    return np.abs(a.astype(int) - b).max()


# The folder


def test_a_folder_holds_only_the_adaptation_and_reads_back(pipe, base, folders, tmp_path):
    tensors = load_file(folders / "smirk" / WEIGHTS)
    hosts = {name.split(".eam")[0].split("_eam")[0] for name in tensors if "eam" in name}
    assert all("eam" in name or name.startswith(("edn.", "emotion_mapper.heads.0.")) for name in tensors)
    assert {"a2et.face", "repos_net.volume"} <= hosts and sum("decode" in host for host in hosts) == 12
    config = json.loads((folders / "smirk" / CONFIG).read_text())
    assert config["emotions"] == ["smirk"] and config["prompt_type"] == "deep" and config["training"] == {"steps": 3}
    assert config["library_version"] == eat_hf.__version__ and set(config["base_fingerprint"]) >= {"a2et", "settings"}

    assert pipe.load_adapter(folders / "smirk") == "smirk"
    pipe.save_adapter("smirk", tmp_path / "again")
    for file in (CONFIG, WEIGHTS):
        assert (tmp_path / "again" / file).read_bytes() == (folders / "smirk" / file).read_bytes()
    assert "adds smirk" in (tmp_path / "again" / "README.md").read_text()


def test_an_official_adapter_is_a_small_share_of_its_base():
    with torch.device("meta"):
        parts = (
            eat_hf.CanonicalKeypointDetector(), eat_hf.MotionEstimator(), eat_hf.EmotionMapper(), eat_hf.A2ET(),
            eat_hf.EDN(), eat_hf.RePosNet(), None, eat_hf.ExpressionBasis(),
        )  # fmt: skip
        own = adaptation_parts(EATPipeline(*parts).networks)
    head = sum(p.numel() for p in own["emotion_mapper.heads"][0].parameters())
    rest = sum(p.numel() for name, part in own.items() if "heads" not in name for p in part.parameters())
    assert rest == 2_386_077 + 778_368  # Figure 6: EDN and the EAMs
    assert (head + rest) / 203_507_375 < 0.0685
    with torch.device("meta"):
        network = (parts[0], *parts[2:6])
    unused = 10_496 + 3_319_811  # an embedding, and classifiers of the pitch network
    assert sum(p.numel() for part in network for p in part.parameters()) == 203_507_375 - unused


def test_the_fingerprint_is_of_the_frozen_weights_alone(pipe, base):
    own = fingerprint(base.base)
    assert fingerprint(pipe.base) == own and "edn" not in own
    with torch.no_grad():
        pipe.a2et.face_eam.expand.bias += 1
        pipe.edn.head.bias += 1
        pipe.emotion_mapper.heads[2][0].bias += 1
    assert fingerprint(pipe.base) == own
    with torch.no_grad():
        pipe.emotion_mapper.shared[0].bias[0] += 1e-6
        pipe.repos_net.decoder.stem.bias[0] += 1e-6
    changed = {name for name, digest in fingerprint(pipe.base).items() if digest != own[name]}
    assert changed == {"emotion_mapper", "repos_net"}


# Use


def test_adapters_are_emotions_of_their_own(pipe, crop, folders):
    before = frames(pipe, crop, "happy")
    pipe.load_adapter(folders / "smirk")
    pipe.load_adapter(folders / "wince", "ouch")
    assert pipe.load_adapter(folders / "bored") == "bored+dreamy"
    assert pipe.emotions == (*OWN, "smirk", "ouch", "bored", "dreamy")
    assert list(pipe.adapters) == ["smirk", "ouch", "bored+dreamy"]
    seen = [frames(pipe, crop, emotion) for emotion in ("happy", "smirk", "ouch", "bored", "dreamy")]
    assert np.array_equal(seen[0], before)
    assert min(difference(a, b) for i, a in enumerate(seen) for b in seen[i + 1 :]) > 3
    pipe.unload_adapter("bored+dreamy")
    assert pipe.emotions == (*OWN, "smirk", "ouch")
    with pytest.raises(UserError, match="Unknown emotion 'bored'.*smirk, ouch"):
        frames(pipe, crop, "bored")


def test_a_copy_of_the_bases_own_adaptation_looks_like_it(pipe, crop):
    pipe.add_adapter(
        EmotionAdapter.create(pipe.base, ["glad"], "angry")
    )  # adapters take the noise of the first emotions
    assert difference(frames(pipe, crop, "glad"), frames(pipe, crop, "angry")) <= 1


def test_an_adapter_shows_with_its_own_networks_all_of_them(pipe, crop, folders):
    """Against a pipeline whose own adaptation was overwritten with the adapter's."""
    pipe.load_adapter(folders / "smirk")
    expected = EATPipeline.from_pretrained(pipe.name_or_path)
    expected.set_progress_bar_config(disable=True)
    adapter = pipe.adapters["smirk"]
    for name, part in adaptation_parts(expected).items():
        if name == "emotion_mapper.heads":
            part[0].load_state_dict(adapter.parts[name][0].state_dict())
        else:
            part.load_state_dict(adapter.parts[name].state_dict())
    overwritten = frames(expected, crop, "angry")
    assert difference(frames(pipe, crop, "smirk"), overwritten) <= 1
    matter = ("emotion_mapper.heads", "edn", "a2et.face_eam", "a2et.acoustic_encoder.decode.3.norm2.eam")
    for name in (*matter, "repos_net.volume_eam"):
        part = adapter.parts[name]
        changed = {key: value.clone() for key, value in part.state_dict().items()}
        with torch.no_grad():
            for value in part.parameters():
                value.mul_(-1.5).add_(0.1)
        assert difference(frames(pipe, crop, "smirk"), overwritten) > 1, name
        part.load_state_dict(changed)


def test_intensity_moves_between_the_bases_neutral_and_the_adapter(pipe, crop, folders):
    pipe.load_adapter(folders / "smirk")
    none, half, whole = (frames(pipe, crop, "smirk", intensity=value) for value in (0, 0.5, 1))
    assert np.array_equal(none, frames(pipe, crop, "neutral")) and difference(whole, none) > 3
    assert difference(half, none) > 3 and difference(half, whole) > 3


@torch.no_grad()
def test_mixtures_across_adapters_are_linear(pipe, portrait, folders):
    """Expressions, and the scale and shift of the renderer's EAM."""
    from eat_hf.media.recordings import read_audio

    pipe.load_adapter(folders / "smirk")
    pipe.load_adapter(folders / "wince")
    seen, speech = pipe.prepare_portrait(portrait), pipe.encode_audio(read_audio(AUDIO))
    pose = pose_head(seen, pipe.prepare_motion("still", 5, speech.energy))
    adaptations = pipe.adaptations
    prompts = draw_prompts(pipe.networks, adaptations, torch.Generator().manual_seed(1))
    assert prompts.shape[0] == 10

    def show(**shares):
        weights = torch.zeros(5, 10)
        for name, share in shares.items():
            weights[:, pipe.emotions.index(name)] = share
        mix = EmotionMix(adaptations, prompts, weights)
        expression = predict_expression(pipe.networks, seen, speech, pose, mix)
        guidance = mix.guidance()
        eam = MixedEAM([adaptation.repos_net.volume_eam for adaptation in adaptations])
        return expression, eam(seen.features.volume, guidance)

    happy, smirk, wince, neutral = (show(**{name: 1.0}) for name in ("happy", "smirk", "wince", "neutral"))
    for shares, parts in (
        ({"happy": 0.5, "smirk": 0.3, "wince": 0.2}, (happy, smirk, wince)),
        ({"smirk": 1.4, "neutral": -0.4}, (smirk, neutral)),
    ):
        found = show(**shares)
        for kind in range(2):
            expected = sum(share * part[kind] for share, part in zip(shares.values(), parts, strict=True))
            torch.testing.assert_close(found[kind], expected, rtol=1e-4, atol=1e-4)
    # shares of the base that add up to nothing
    cancelled = show(happy=0.5, neutral=-0.5, smirk=1.0)[1]
    torch.testing.assert_close(cancelled, smirk[1], rtol=1e-4, atol=1e-4)
    alone = adaptations[1].repos_net.volume_eam(seen.features.volume, prompts[8:9, 0])
    torch.testing.assert_close(smirk[1], alone, rtol=1e-5, atol=1e-6)
    assert (smirk[1] - happy[1]).abs().max() > 0.05


def test_a_timeline_of_two_adapters_begins_and_ends_with_each_alone(pipe, crop, folders):
    pipe.load_adapter(folders / "smirk")
    pipe.load_adapter(folders / "wince")
    audio = voice(0.52), 16000  # 13 frames, the fade is from 1 to 11
    pipe.expression_basis.register_to_config(driving_centring="none")  # or else every frame depends on the whole clip
    smirk, wince, both = (
        pipe(crop, audio, emotion, generator=1, align=False, head_motion="still", batch_size=5).frames
        for emotion in ("smirk", "wince", [(0.0, "smirk"), (0.04, "wince")])
    )
    assert difference(both[:2], smirk[:2]) <= 1 and difference(both[11:], wince[11:]) <= 1
    assert difference(both[6], smirk[6]) > 3 and difference(both[6], wince[6]) > 3


def test_unloading_restores_every_bit(pipe, crop, folders):
    emotions = ["happy", [(0.0, {"happy": 0.4, "sad": 0.6}), (0.04, "fear")], None]
    state = {name: tensor.clone() for part in pipe.components.values() for name, tensor in part.state_dict().items()}
    before = [frames(pipe, crop, emotion) for emotion in emotions]
    pipe.load_adapter(folders / "smirk")
    pipe.load_adapter(folders / "wince")
    during = [frames(pipe, crop, emotion) for emotion in emotions]
    smirk = frames(pipe, crop, {"smirk": 0.5, "wince": 0.3, "happy": 0.2}, intensity=1.3)
    pipe.unload_adapter("smirk")
    pipe.unload_adapter("wince")
    after = [frames(pipe, crop, emotion) for emotion in emotions]
    for found in (during, after):
        assert all(np.array_equal(a, b) for a, b in zip(before, found, strict=True))
    assert difference(smirk, before[0]) > 3
    assert pipe.emotions == OWN
    now = {name: tensor for part in pipe.components.values() for name, tensor in part.state_dict().items()}
    assert all(torch.equal(now[name], tensor) for name, tensor in state.items())


def test_adapters_share_the_base(pipe, folders):
    pipe.load_adapter(folders / "smirk")
    own, smirk = pipe.adaptations
    assert smirk.a2et.head is own.a2et.head and smirk.repos_net.decoder is own.repos_net.decoder
    shared = {id(p) for p in own.a2et.parameters()} & {id(p) for p in smirk.a2et.parameters()}
    eams = sum(1 for name, _ in own.a2et.named_parameters() if "eam" in name)
    assert len(shared) == len(list(own.a2et.parameters())) - eams
    assert smirk.a2et.face_eam is not own.a2et.face_eam and smirk.edn is not own.edn
    pipe.to("meta")  # moves with the base
    assert {parameter.device.type for parameter in pipe.adaptations[1].a2et.parameters()} == {"meta"}


def test_a_base_in_half_precision_is_still_the_base(folders, base, model, crop):
    pipe = EATPipeline.from_pretrained(model, torch_dtype=torch.bfloat16)
    pipe.set_progress_bar_config(disable=True)
    assert pipe.repos_net.dtype == torch.bfloat16 and fingerprint(pipe.base) == fingerprint(base.base)
    mixture = {"smirk": 0.5, "happy": 0.5}
    for each in (pipe, base):
        each.load_adapter(folders / "smirk")
    # one frame: many processors are slow at this
    frame, exact = (
        next(each.stream(crop, AUDIO, mixture, generator=1, align=False, batch_size=1)) for each in (pipe, base)
    )
    base.unload_adapter("smirk")
    assert np.corrcoef(frame.ravel(), exact.ravel())[0, 1] > 0.9


def test_threads_with_different_adapters_do_not_meet(pipe, crop, portrait, folders):
    """Generating, while others load and unload; with the search for faces, which C++ code does."""
    pipe.load_adapter(folders / "smirk")
    pipe.load_adapter(folders / "wince")
    wishes = ["smirk", "wince", "happy", {"smirk": 0.5, "wince": 0.5}]
    alone = [pipe(portrait, AUDIO, wish, generator=n).frames for n, wish in enumerate(wishes)]

    def restless(number):
        for _ in range(10):
            pipe.load_adapter(folders / "wince", f"other{number}")
            pipe.unload_adapter(f"other{number}")

    with ThreadPoolExecutor(4) as threads:
        made = [threads.submit(pipe, portrait, AUDIO, wish, generator=n) for n, wish in enumerate(wishes)]
        loads = [threads.submit(restless, number) for number in range(2)]
        assert all(np.array_equal(clip.result().frames, one) for clip, one in zip(made, alone, strict=True))
        for load in loads:
            load.result()
    # a clip that is under way keeps what was unloaded
    chunks = pipe.stream(portrait, AUDIO, "smirk", generator=0, batch_size=2)
    first = next(chunks)
    pipe.unload_adapter("smirk")
    assert difference(np.concatenate([first, *chunks]), alone[0]) <= 1


# Mistakes


def spoil(folder, target, config=None, tensors=None):
    """A copy of an adapter with a changed configuration or changed tensors."""
    found = json.loads((folder / CONFIG).read_text())
    weights = load_file(folder / WEIGHTS)
    (config or (lambda _: None))(found)
    (tensors or (lambda _: None))(weights)
    target.mkdir()
    (target / CONFIG).write_text(json.dumps(found))
    save_file(weights, target / WEIGHTS)
    return target


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"tensors": lambda t: t.pop("edn.head.bias")}, "lacks the tensor edn.head.bias"),
        ({"tensors": lambda t: t.update(extra=torch.zeros(1))}, "has a tensor extra, which is no part"),
        (
            {"tensors": lambda t: t.update({"edn.head.bias": torch.zeros(3)})},
            r"edn.head.bias has the shape \(3,\), but",
        ),
        ({"config": lambda c: c.pop("base_model")}, "base_model: Field required"),
        ({"config": lambda c: c.update(emotions="smirk")}, "emotions: Input should be a valid array"),
        ({"config": lambda c: c.update(emotions=[])}, "emotions: Tuple should have at least 1 item"),
        ({"config": lambda c: c.update(emotions=["a", "b"])}, "lacks the tensor emotion_mapper.heads.1.0.bias"),
        ({"config": lambda c: c.update(prompt_type="shallow")}, "has shallow prompts, and this model deep ones"),
        ({"config": lambda c: c["base_fingerprint"].update(a2et="0")}, "differs from that in a2et"),
        ({"config": lambda c: c.update(base_fingerprint={})}, "differs from that in everything"),
    ],
)
def test_what_does_not_fit_is_named(pipe, folders, tmp_path, change, words):
    with pytest.raises(UserError, match=words):
        pipe.load_adapter(spoil(folders / "smirk", tmp_path / "spoilt", **change))
    assert pipe.emotions == OWN


def test_another_base_is_refused_by_name(folders):
    other = build_tiny_pipeline(hull_volume_exponent=0.5)
    with torch.no_grad():
        other.keypoint_detector.head.bias += 1
    with pytest.raises(UserError, match="made for the base .*differs from that in keypoint_detector, settings"):
        other.load_adapter(folders / "smirk")


def test_a_base_without_its_speech_encoder_is_the_same(pipe, folders):
    pipe.register_modules(speech_encoder=None)
    assert pipe.load_adapter(folders / "smirk") == "smirk"


def test_unknown_keys_are_a_warning(pipe, folders, tmp_path):
    folder = spoil(folders / "smirk", tmp_path / "new", lambda config: config.update(colour="red"))
    with pytest.warns(InputWarning, match="keys that are not used: colour"):
        pipe.load_adapter(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error", InputWarning)
        pipe.load_adapter(folders / "wince")


def test_pickles_and_other_files_are_refused(pipe, folders, tmp_path):
    folder = spoil(folders / "smirk", tmp_path / "pickle")
    (folder / WEIGHTS).unlink()
    torch.save({}, folder / "adapter_model.bin")
    with pytest.raises(UserError, match="adapter_model.bin is a pickle"):
        pipe.load_adapter(folder)
    (folder / "adapter_model.bin").rename(folder / WEIGHTS)  # under the right name
    with pytest.raises(UserError, match="cannot be read"):
        pipe.load_adapter(folder)
    (folder / CONFIG).write_text("{")
    with pytest.raises(UserError, match=f"{CONFIG} cannot be read"):
        pipe.load_adapter(folder)
    (folder / CONFIG).unlink()
    with pytest.raises(UserError, match=f"is not an adapter: it has no {CONFIG}"):
        pipe.load_adapter(folder)
    with pytest.raises(UserError, match="none/at/all is neither a folder nor"):
        pipe.load_adapter("none/at/all")


def test_names_are_unique_and_can_be_typed(pipe, folders, tmp_path):
    pipe.load_adapter(folders / "smirk")
    with pytest.raises(UserError, match="There is an emotion 'smirk' already"):
        pipe.load_adapter(folders / "smirk")
    assert pipe.load_adapter(folders / "smirk", "smirk 2") == "smirk 2"
    for name, words in (("happy", "'happy' already"), ("a=b", "cannot be called 'a=b'"), (" ", "cannot be called")):
        with pytest.raises(UserError, match=words):
            pipe.load_adapter(folders / "wince", name)
    with pytest.raises(UserError, match="There is an adapter 'smirk 2' already"):
        pipe.load_adapter(folders / "bored", "smirk 2")
    for call in (pipe.unload_adapter, lambda name: pipe.save_adapter(name, tmp_path)):
        with pytest.raises(UserError, match="no adapter 'wince'; loaded: smirk, smirk 2"):
            call("wince")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is a file; give the name of a folder"):
        pipe.save_adapter("smirk", tmp_path / "file")
    pipe.save_adapter("smirk 2", tmp_path / "renamed")
    assert json.loads((tmp_path / "renamed" / CONFIG).read_text())["emotions"] == ["smirk 2"]


def test_a_new_adapter_starts_from_an_emotion_that_exists(base):
    with pytest.raises(UserError, match="no emotion 'joy' to start from"):
        EmotionAdapter.create(base.base, ["smirk"], "joy")
    config = EmotionAdapter.create(base.base, ["smirk"], "sad").config
    assert config.base_parameters == sum(
        p.numel()
        for name in ("repos_net", "keypoint_detector", "a2et", "emotion_mapper", "edn")
        for p in base.components[name].parameters()
    )


def test_an_emotion_of_the_models_own_becomes_an_adapter_with_the_same_frames(pipe, portrait, recording_file, tmp_path):
    pipe.save_adapter("happy", tmp_path / "happy")
    view = pipe.with_adapters({})
    assert view.load_adapter(tmp_path / "happy", "glad") == "glad"
    clips = [
        view(portrait, str(recording_file), emotion=emotion, generator=3, head_motion="still").frames.astype(float)
        for emotion in ("happy", "glad", "sad")
    ]
    same, other = (np.abs(clips[0] - clip).mean() for clip in clips[1:])
    assert same < 0.2 < 5 < other  # an adapter is a batch of its own, which rounds differently
