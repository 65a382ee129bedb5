"""A2ET, EDN, the emotion mapper and the expression basis: sizes, batches, prompts, saving. Numbers: test_parity.py."""

import pytest
import torch
from official_release import TINY, TINY_A2ET, TINY_EDN, randomised

from eat_hf.models.a2et import A2ET
from eat_hf.models.eam import EmotionalAdaptationModule
from eat_hf.models.edn import EDN
from eat_hf.models.emotion_mapper import EmotionMapper
from eat_hf.models.expression_basis import ExpressionBasis
from eat_hf.models.keypoint_detector import CanonicalKeypointDetector
from eat_hf.models.motion_estimator import MotionEstimator
from eat_hf.models.repos_net import RePosNet
from eat_hf.models.transformer import PromptedTransformer

FRAMES, PROMPTS, WIDTH = 3, 3, 16


def parameters(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def make(component: str) -> torch.nn.Module:
    torch.manual_seed(1)
    return randomised(TINY[component]())


def enlarged(pictures: torch.Tensor, factor: int) -> torch.Tensor:
    return pictures.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


def a2et_inputs(clips: int = 2, frames: int = FRAMES, seed: int = 2) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    shapes = {
        "semantic": (clips, frames, 11, 16, 29),
        "mel": (clips, frames, 11, 80),
        "pose_images": (clips, frames, 11, 4, 4),
        "yaw": (clips, frames, 66),
        "pitch": (clips, frames, 66),
        "roll": (clips, frames, 66),
        "translation": (clips, frames, 3),
        "prediction_map": (clips, 15, 2, 4, 4),
        "prompts": (clips, PROMPTS, WIDTH),
    }
    inputs = {name: torch.randn(shape, generator=g) for name, shape in shapes.items()}
    for picture in ("pose_images", "prediction_map"):  # coarse, since noise would average out to nothing
        inputs[picture] = enlarged(inputs[picture], 16)
    return inputs


def one_clip(inputs: dict[str, torch.Tensor], clip: int) -> dict[str, torch.Tensor]:
    return {name: tensor[clip : clip + 1] for name, tensor in inputs.items()}


# The official sizes -----------------------------------------------------------------------------------------------


def test_parameter_counts_are_the_papers():
    with torch.device("meta"):
        models = {
            "repos_net": RePosNet(),
            "keypoint_detector": CanonicalKeypointDetector(),
            "a2et": A2ET(),
            "emotion_mapper": EmotionMapper(),
            "edn": EDN(),
            "motion_estimator": MotionEstimator(),
        }
    counts = {name: parameters(model) for name, model in models.items()}
    unused_embedding = 41 * 256  # in the release's A2ET, read by no layer, left out here
    pitch_heads = 3_319_811  # classifiers of the pitch network, which never run
    assert counts == {
        "repos_net": 100_989_012,
        "keypoint_detector": 41_940_047,
        "a2et": 47_414_639 - unused_embedding - pitch_heads,
        "emotion_mapper": 10_777_600,
        "edn": 2_386_077,
        "motion_estimator": 30_254_838,
    }
    sites = [m for model in models.values() for m in model.modules() if isinstance(m, EmotionalAdaptationModule)]
    assert len(sites) == 14 and sum(parameters(site) for site in sites) == 778_368
    assert sum(counts.values()) - counts["motion_estimator"] + unused_embedding + pitch_heads == 203_507_375


# Saving -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("component", ["a2et", "edn", "emotion_mapper"])
def test_save_and_load(component, tmp_path):
    model = make(component)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    for name, value in model.config.items():
        if not name.startswith("_"):
            saved = loaded.config[name]
            assert (tuple(saved) if isinstance(saved, list) else saved) == value
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert [path.name for path in tmp_path.glob("*.safetensors")]


def test_what_a_loaded_a2et_computes(tmp_path):
    model, inputs = make("a2et"), a2et_inputs()
    model.save_pretrained(tmp_path)
    loaded = A2ET.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**inputs).coefficients, model(**inputs).coefficients, rtol=0, atol=0)


# A2ET -------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a2et_gives_each_clip_its_own_face_and_emotion():
    model, inputs = make("a2et"), a2et_inputs()
    both = model(**inputs)
    assert both.coefficients.shape == (2, FRAMES, 32) and both.face_features.shape == (2, 4, 16, 16)
    for clip in range(2):
        single = model(**one_clip(inputs, clip))
        torch.testing.assert_close(both.coefficients[clip], single.coefficients[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(both.face_features[clip], single.face_features[0], rtol=1e-4, atol=1e-5)
    # the first clip's sound and speech on the second one's face, and with its emotion, are something else
    for part in ("prediction_map", "prompts"):
        mixed = model(**one_clip(inputs, 0) | {part: inputs[part][1:]})
        assert (mixed.coefficients[0] - both.coefficients[0]).abs().max() > 1e-3


@torch.no_grad()
def test_a2et_frames_do_not_see_each_other():
    model, inputs = make("a2et"), a2et_inputs(clips=1)
    whole = model(**inputs).coefficients
    per_clip = ("prediction_map", "prompts")
    last = {name: tensor if name in per_clip else tensor[:, -1:] for name, tensor in inputs.items()}
    torch.testing.assert_close(model(**last).coefficients, whole[:, -1:], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("part", ["semantic", "mel", "pose_images", "yaw", "pitch", "roll", "translation"])
@torch.no_grad()
def test_a2et_hears_and_sees_every_input(part):
    model, inputs = make("a2et"), a2et_inputs()
    before = model(**inputs).coefficients
    inputs[part] = inputs[part].flip(0)
    assert (model(**inputs).coefficients - before).abs().amax((1, 2)).min() > 1e-4


@torch.no_grad()
def test_a2et_without_prompts_ignores_the_adaptation_modules():
    model, inputs = make("a2et"), a2et_inputs()
    del inputs["prompts"]
    before = model(**inputs).coefficients
    for module in model.modules():
        if isinstance(module, EmotionalAdaptationModule):
            torch.nn.init.normal_(module.expand.weight)
    torch.testing.assert_close(model(**inputs).coefficients, before, rtol=0, atol=0)


@torch.no_grad()
def test_speech_tokens_can_be_computed_once_per_frame():
    model = make("a2et")
    semantic, pose = torch.randn(7, 16, 29), torch.rand(7, 64, 64) * 255
    together = model.encode_speech(semantic, pose)
    alone = torch.cat([model.encode_speech(s[None], p[None]) for s, p in zip(semantic, pose, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_a2et_says_what_is_wrong_with_its_input_and_configuration():
    inputs = a2et_inputs()
    inputs["mel"] = inputs["mel"][:, :, :9]
    with pytest.raises(ValueError, match="windows of 11 frames, got 11 semantic, 9 mel"):
        make("a2et")(**inputs)
    for change, message in (
        ({"window": 10}, "window must be odd"),
        ({"map_size": 32}, "decode_widths must end with map_size"),
        ({"face_channels": 5}, "acoustic_token_widths must start with"),
    ):
        with pytest.raises(ValueError, match=message):
            A2ET(**TINY_A2ET | change)


def test_the_pitch_network_keeps_its_statistics_while_a2et_trains():
    model = make("a2et").train()
    assert model.acoustic_token.training and model.encoder.training
    assert not any(module.training for module in model.pitch_network.modules())
    before = {name: value.clone() for name, value in model.pitch_network.state_dict().items() if "running" in name}
    model(**a2et_inputs()).coefficients.sum().backward()
    after = model.pitch_network.state_dict()
    assert before and all(torch.equal(after[name], value) for name, value in before.items())


def test_every_weight_is_trained():
    model = TINY["a2et"]().train()
    for module in model.modules():  # adaptation modules start as the identity; off it, all of them learn
        if isinstance(module, EmotionalAdaptationModule):
            torch.nn.init.normal_(module.expand.weight, std=0.1)
    out = model(**a2et_inputs())
    out.coefficients.square().sum().backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("component", ["a2et", "edn"])
def test_gradients_are_the_same_where_layers_are_computed_again(component):
    model = make(component).eval()
    edn_inputs = {"face_features": torch.randn(2, 4, 16, 16), "prompts": torch.randn(2, 3, WIDTH)}
    inputs = a2et_inputs() if component == "a2et" else edn_inputs
    gradients = []
    for checkpointing in (False, True):
        model.zero_grad()
        model.enable_gradient_checkpointing() if checkpointing else model.disable_gradient_checkpointing()
        assert model.is_gradient_checkpointing == checkpointing
        out = model(**inputs)
        (out.coefficients if component == "a2et" else out.expression).square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and any("layers" in name for name in gradients[0])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-6, rtol=1e-4)


# Prompts ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stack():
    torch.manual_seed(4)
    return PromptedTransformer(WIDTH, heads=2, feed_forward=32, layers=2, dropout=0.1).eval()


@torch.no_grad()
def test_each_deep_prompt_replaces_the_output_of_the_one_before(stack):
    tokens, prompts = torch.randn(2, 5, WIDTH), torch.randn(2, 2, WIDTH)
    x = torch.cat([tokens, prompts[:, :1]], 1) + stack.positions[:6]
    x = stack.layers[0](x)
    expected = stack.layers[1](torch.cat([x[:, :5], prompts[:, 1:]], 1))
    torch.testing.assert_close(stack(tokens, prompts), expected)


@torch.no_grad()
def test_the_output_of_a_shallow_prompt_stays_a_token(stack):
    tokens, prompts = torch.randn(2, 5, WIDTH), torch.randn(2, 1, WIDTH)
    x = torch.cat([tokens, prompts], 1) + stack.positions[:6]
    expected = stack.layers[1](stack.layers[0](x))
    torch.testing.assert_close(stack(tokens, prompts), expected)
    assert stack(tokens).shape == (2, 5, WIDTH)


def test_other_numbers_of_prompts_are_refused(stack):
    with pytest.raises(ValueError, match="A stack of 2 layers takes 1 or that many prompts, not 3"):
        stack(torch.randn(2, 5, WIDTH), torch.randn(2, 3, WIDTH))


@torch.no_grad()
def test_a2et_takes_shallow_prompts():
    model, inputs = make("a2et"), a2et_inputs()
    shallow = model(**inputs | {"prompts": inputs["prompts"][:, :2]}).coefficients
    assert shallow.shape == (2, FRAMES, 32)
    assert (shallow - model(**inputs).coefficients).abs().max() > 1e-4


# EDN --------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_edn_gives_each_clip_its_own_deformation():
    model = make("edn")
    face, prompts = enlarged(torch.randn(2, 4, 4, 4), 4), torch.randn(2, PROMPTS, WIDTH)
    both = model(face, prompts).expression
    assert both.shape == (2, 45)
    for clip in (slice(0, 1), slice(1, 2)):
        torch.testing.assert_close(model(face[clip], prompts[clip]).expression, both[clip], rtol=1e-4, atol=1e-5)
    assert (model(face, prompts.flip(0)).expression - both).abs().max() > 1e-3
    assert (model(face.flip(0), prompts).expression - both).abs().max() > 1e-3


@torch.no_grad()
def test_edn_starts_from_a2et_and_deforms_nothing_yet():
    a2et, edn = make("a2et"), make("edn")
    edn.initialise_from_a2et(a2et)
    tokens = torch.randn(2, 4, WIDTH)
    torch.testing.assert_close(edn.encoder(tokens), a2et.encoder(tokens))
    ours, theirs = edn.face_token.blocks, a2et.acoustic_token.blocks
    torch.testing.assert_close(ours[0].conv1.weight, theirs[0].conv1.weight[:, 4:])
    torch.testing.assert_close(ours[0].norm1.running_var, theirs[0].norm1.running_var[4:])
    x = torch.randn(2, 4, 8, 8)
    torch.testing.assert_close(ours[1:](x), theirs[1:](x))
    assert not edn(torch.randn(2, 4, 16, 16), torch.randn(2, PROMPTS, WIDTH)).expression.any()


def test_an_edn_of_another_size_is_refused():
    for size in ({"layers": 3}, {"feed_forward": 48}):
        with pytest.raises(ValueError, match="cannot initialise this EDN"):
            EDN(**TINY_EDN | size).initialise_from_a2et(make("a2et"))


@torch.no_grad()
def test_a_smaller_edn_starts_from_the_first_layers_of_a2et():
    a2et, edn = make("a2et"), EDN(**TINY_EDN | {"layers": 1, "face_widths": (4, 4, WIDTH)})
    face = {name: value.clone() for name, value in edn.face_token.state_dict().items()}
    edn.initialise_from_a2et(a2et)
    torch.testing.assert_close(edn.encoder.layers[0].state_dict(), a2et.encoder.layers[0].state_dict())
    torch.testing.assert_close(dict(edn.face_token.state_dict()), face)
    assert not edn.head.weight.any()


# Emotion mapper ---------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_the_mapper_treats_each_clip_by_its_own_emotion():
    model = make("emotion_mapper")
    latent, emotions = torch.randn(5, 4), torch.tensor([4, 0, 7, 4, 2])
    both = model(latent, emotions).prompts
    assert both.shape == (5, PROMPTS, WIDTH)
    for i in range(5):
        alone = model(latent[i : i + 1], emotions[i : i + 1]).prompts
        torch.testing.assert_close(both[i : i + 1], alone, rtol=1e-4, atol=1e-5)
    assert (model(latent, emotions.flip(0)).prompts - both).abs().amax((1, 2))[0] > 1e-3


@pytest.mark.parametrize("ids", [[8], [-1], [0, 9]])
def test_the_mapper_refuses_emotions_it_does_not_have(ids):
    with pytest.raises(ValueError, match=r"emotion_ids must be in 0\.\.7, got"):
        make("emotion_mapper")(torch.randn(len(ids), 4), torch.tensor(ids))


def test_the_mapper_knows_the_official_emotions_in_order():
    names = ("angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised")
    assert tuple(TINY["emotion_mapper"]().config.emotions) == names


# Expression basis -------------------------------------------------------------------------------------------------


def test_the_expression_basis_is_linear_and_projects_back(tmp_path):
    torch.manual_seed(5)
    basis = ExpressionBasis(keypoints=4, coefficients=5)
    basis.directions.copy_(torch.randn(12, 5))  # not orthonormal
    basis.mean.copy_(torch.randn(12))
    coefficients = torch.randn(2, 3, 5)
    expression = basis(coefficients)
    torch.testing.assert_close(expression[1, 2], basis.directions @ coefficients[1, 2] + basis.mean)
    torch.testing.assert_close(basis.project(expression), coefficients, rtol=1e-4, atol=1e-4)
    basis.save_pretrained(tmp_path)
    torch.testing.assert_close(ExpressionBasis.from_pretrained(tmp_path)(coefficients), expression, rtol=0, atol=0)


def test_lips_of_canonical_keypoints_are_shut():
    """Whatever the motion estimator took for an open mouth, the lips of a face at rest are as far apart as they are."""
    torch.manual_seed(0)
    parting = torch.zeros(6, 3)
    parting[4], parting[5] = torch.tensor([0.0, 1.0, -0.4]), torch.tensor([0.0, 0.7, -0.7])  # lower lip and chin
    settings = dict(hull_volume_exponent=1 / 3, lips=(3, 4), lips_apart=0.02)
    basis = ExpressionBasis(6, 4, **settings, parting_deformation=parting.flatten().tolist())
    rest = torch.rand(2, 6, 3) - 0.5
    shut = basis.rest_lips(rest)
    still = [0, 1, 2, 3]
    assert torch.equal(shut[:, still], rest[:, still])
    torch.testing.assert_close(shut[:, 4, 1] - shut[:, 3, 1], 0.02 * basis.scale(rest))
    ratio = (shut - rest)[:, 5] / (shut - rest)[:, 4, 1:2]
    torch.testing.assert_close(ratio, parting[5].expand(2, -1), atol=1e-4, rtol=1e-4)
    published = ExpressionBasis(6, 4)
    assert published.rest_lips(rest) is rest
    with pytest.raises(ValueError, match="belong together"):
        ExpressionBasis(6, 4, lips=(3, 4))
    with pytest.raises(ValueError, match="parting_deformation must be 18 numbers"):
        ExpressionBasis(6, 4, lips=(3, 4), parting_deformation=[0.0])
