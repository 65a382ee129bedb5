"""Both renderers, both keypoint detectors and the motion estimator at tiny sizes: shapes, batches, saving."""

import pytest
import torch
from tiny_renderers import DETAIL, PLAIN, clips

from eat_hf import CanonicalKeypointDetector, DetailRenderer, LandmarkDetector, MotionEstimator, RePosNet
from eat_hf.models.affine_motion import fit_affine
from eat_hf.models.components import load_component
from eat_hf.models.layers import conv_of_enlarged, pixel_grid
from eat_hf.models.mouth_decoder import HEIGHT, WIDTH
from eat_hf.models.patches import PatchPlane, polygon_area, polygon_coverage, sample


def build(config, seed=0):
    torch.manual_seed(seed)
    model = (DetailRenderer if "inner_mouth" in config else RePosNet)(**config).eval()
    torch.nn.init.normal_(model.volume_eam.expand.weight)  # a fresh one is the identity
    return model


# the detail renderer's flow has 64 cells across the frame, so it renders frames of 256
CASES = [pytest.param(PLAIN, 64, id="published"), pytest.param(DETAIL, 256, id="detail")]


@pytest.mark.parametrize(("config", "size"), CASES)
@torch.no_grad()
def test_frames_are_pictures_and_clips_do_not_mix(config, size):
    model = build(config)
    batch = clips(size=size)
    frames = model(*batch).frames
    assert frames.shape == (2, 2, 3, size, size)
    assert 0 <= frames.min() and frames.max() <= 1
    alone = torch.cat([model(*(tensor[i : i + 1] for tensor in batch)).frames for i in range(2)])
    torch.testing.assert_close(frames, alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("config", "size"), CASES)
@torch.no_grad()
def test_guidance_per_frame_equals_guidance_per_clip(config, size):
    model = build(config)
    pictures, source, driving, guidance = clips(size=size)
    features = model.encode(pictures)
    constant = model.render(features, source, driving, guidance).frames
    repeated = model.render(features, source, driving, guidance[:, None].expand(-1, 2, -1)).frames
    torch.testing.assert_close(constant, repeated, atol=1e-6, rtol=1e-5)
    changing = torch.stack([guidance, -guidance], 1)
    changed = model.render(features, source, driving, changing).frames
    torch.testing.assert_close(changed[:, 0], constant[:, 0], atol=1e-6, rtol=1e-5)
    assert (changed[:, 1] - constant[:, 1]).abs().max() > 1e-5


@pytest.mark.parametrize(("config", "size"), CASES)
@torch.no_grad()
def test_saved_model_renders_the_same(config, size, tmp_path):
    model = build(config)
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("*.bin")) and list(tmp_path.glob("*.safetensors"))
    batch = clips(1, 1, size)
    again = load_component(tmp_path)
    assert type(again) is type(model)
    torch.testing.assert_close(again(*batch).frames, model(*batch).frames)


@torch.no_grad()
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("kind", [torch.nn.Conv2d, torch.nn.Conv3d])
def test_a_convolution_of_an_enlarged_map_needs_no_enlarged_map(kind, scale):
    torch.manual_seed(0)
    conv = kind(3, 5, 3, padding=1).double()
    deep = kind is torch.nn.Conv3d
    small = torch.randn(2, 3, *[4] * deep, 5, 7, dtype=torch.float64)
    enlarged = torch.nn.functional.interpolate(small, scale_factor=(*[1] * deep, scale, scale))
    torch.testing.assert_close(conv_of_enlarged(conv, small, scale), conv(enlarged))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("config", "size"), CASES)
def test_half_precision_draws_the_same_in_the_same_places(config, size, dtype):
    model = build(config)
    pictures, source, driving, guidance = clips(count=1, frames=1, size=size)  # few CPUs are quick in float16
    with torch.no_grad():
        whole = model(pictures, source, driving, guidance)
        half = model.to(dtype)(pictures, source, driving, guidance)
    assert half.frames.dtype == half.deformation.dtype == torch.float32
    assert (half.frames - whole.frames).square().mean() < 1e-4  # 40 dB
    assert (half.deformation - whole.deformation).abs().max() < 0.02


def test_a_fresh_adaptation_module_changes_nothing():
    torch.manual_seed(0)
    model = RePosNet(**PLAIN).eval()
    pictures, source, driving, guidance = clips()
    with_guidance, without = (model(pictures, source, driving, e).frames for e in (guidance, None))
    torch.testing.assert_close(with_guidance, without)


@torch.no_grad()
def test_nothing_is_drawn_beside_the_opening_of_the_mouth():
    model = build(DETAIL)
    pictures, source, driving, guidance = clips(2, 3, 256)
    driving[..., :2] *= 0.4  # small mouths, each elsewhere
    lips = list(DETAIL["inner_mouth"])
    opened = torch.tensor([[-0.15, 0.0], [0.0, -0.1], [0.15, 0.0], [0.0, 0.1]])
    driving[..., lips, :2] = driving[..., lips[:1], :2] + opened
    driving[0, 0, :, 0] += 0.8  # partly off the frame
    driving[0, 1, :, 0] += 3  # off the frame
    made = model(pictures, source, driving, guidance)
    places = pixel_grid(256, 256, like=pictures).expand(6, -1, -1, -1)
    opening = model.mouth_decoder.opening(driving.flatten(0, 1), places).view(2, 3, 1, 256, 256)
    changed = (made.frames - made.warped_picture).abs().amax(2, keepdim=True)
    assert (changed > 0)[opening == 1].float().mean() > 0.95
    # pixels are not the patch's
    around = torch.nn.functional.max_pool2d(opening.flatten(0, 1), 5, 1, 2).view_as(opening)
    assert changed[around == 0].max() == 0
    assert torch.equal(made.frames[0, 1], made.warped_picture[0, 1])


@torch.no_grad()
def test_a_larger_portrait_gives_the_same_frames_larger():
    """Networks look at 256 pixels; what is moved and drawn has the portrait's own density."""
    model = build(DETAIL | dict(eyes=tuple(range(10))))
    torch.nn.init.normal_(model.eye_decoder.to_colour.weight)
    pictures, source, driving, guidance = clips(1, 2, 256)
    pictures = torch.nn.functional.avg_pool2d(pictures, 9, 1, 4)
    driving = source[:, None] + 0.3 * (driving - source[:, None])
    large = torch.nn.functional.interpolate(pictures, scale_factor=2, mode="nearest")
    small, twice = model(pictures, source, driving, guidance), model(large, source, driving, guidance)
    assert twice.frames.shape == (1, 2, 3, 512, 512)
    torch.testing.assert_close(twice.displacement, small.displacement, atol=1e-5, rtol=1e-4)
    again = torch.nn.functional.avg_pool2d(twice.frames[0], 2)
    error = (again - small.frames[0]).abs()
    assert error.mean() < 0.01 and (small.frames - small.warped_picture).abs().max() > 0.1


def test_a_patch_is_laid_where_it_was_taken():
    generator = torch.Generator().manual_seed(0)
    x = torch.linspace(0, 3, 200)
    picture = (torch.sin(x)[:, None] * torch.cos(2 * x)).expand(2, 3, -1, -1) * 0.4 + 0.5
    centre = 0.3 * torch.randn(2, 2, generator=generator)
    plane = PatchPlane(centre, torch.tensor([[0.3, 0.1], [-0.1, 0.2]]).expand(2, -1, -1))
    patch = sample(picture, plane.places(90, 120))
    blank = torch.zeros_like(picture)
    laid = plane.paste(patch, torch.ones(2, 1, 90, 120), blank)
    assert (laid > 0).float().mean(dim=(1, 2, 3)) == pytest.approx([0.3 * 0.2 + 0.01] * 2, rel=0.15)
    inside = laid > 0.05
    full = plane.paste(torch.ones_like(patch), torch.ones(2, 1, 90, 120), blank) > 0.999
    torch.testing.assert_close(laid[full], picture[full], atol=0.01, rtol=0)
    assert inside.sum() < 1.1 * full.sum()
    nowhere = plane.paste(patch, torch.zeros(2, 1, 90, 120), picture)
    assert torch.equal(nowhere, picture)


@torch.no_grad()
def test_a_portrait_that_shows_its_teeth_lends_them():
    """The colours between the lips of the portrait matter to those between the lips of the frame, unless it is shut."""
    decoder, (_, _, driving, _) = build(DETAIL).mouth_decoder, clips(1, 1, 256)
    driving = driving[0]
    driving[0, decoder.inner_mouth] = torch.tensor(
        [[-0.3, 0.0, 0.1], [0.0, -0.15, 0.1], [0.3, 0.0, 0.1], [0, 0.15, 0.1]]
    )
    places = decoder.plane(driving).places(HEIGHT, WIDTH)
    opening = decoder.opening(driving, places)
    teeth, features = decoder.guide.points(driving), torch.zeros(1, DETAIL["feature_channels"], HEIGHT // 4, WIDTH // 4)

    def draw(colour, shown):
        picture = torch.where(opening == 1, colour, 0.5).expand(-1, 3, -1, -1)
        return decoder(picture, opening, shown * (opening > 0), teeth, places, features)

    assert (draw(0.1, 1.0) - draw(0.9, 1.0)).abs().mean() > 1e-3
    torch.testing.assert_close(draw(0.1, 0.0), draw(0.9, 0.0), atol=1e-6, rtol=0)


@torch.no_grad()
def test_unmoved_keypoints_leave_the_flow_to_the_small_correction():
    model = build(DETAIL)
    pictures, source, _, _ = clips(1, 1, 256)
    out = model(pictures, source, source[:, None])
    assert out.displacement.abs().max() <= model.dense_motion.MAX_CORRECTION + 1e-5


@torch.no_grad()
def test_the_border_of_the_picture_stays():
    model = build(DETAIL)
    pictures, source, driving, _ = clips(1, 2, 256)
    moved = model(pictures, source, driving).displacement
    border = torch.cat([moved[..., [0, -1], :].flatten(), moved[..., [0, -1]].flatten()]).abs()
    assert border.max() < 0.05 * moved.abs().max() and moved.abs().max() > 0.05


def test_affine_fit_recovers_a_rotation_and_a_shift():
    generator = torch.Generator().manual_seed(0)
    driving = torch.randn(2, 40, 3, generator=generator)
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator))
    source = driving @ turn + torch.tensor([0.1, -0.2, 0.3])
    matrix, offset = fit_affine(driving, source)
    torch.testing.assert_close(driving @ matrix + offset, source, atol=1e-3, rtol=1e-3)


def test_polygon_coverage_is_its_area():
    square = torch.tensor([[[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]])
    places = pixel_grid(64, 64, like=square)[None]
    coverage = polygon_coverage(square, places)
    assert coverage.mean().item() == pytest.approx(0.25, abs=0.01)
    assert coverage[0, 0, 32, 32] == 1 and coverage[0, 0, 5, 5] == 0
    flat = square * torch.tensor([1.0, 0.0])
    assert polygon_coverage(flat, places).max() == 0
    assert polygon_area(torch.cat([square, square.flip(1), flat])).tolist() == pytest.approx([1, 1, 0])


@pytest.mark.parametrize(
    "wrong", [dict(rigid_keypoints=(0, 1)), dict(inner_mouth=()), dict(inner_mouth=(5, 6, 7, 8, 9))]
)
def test_the_detail_renderer_names_what_it_needs(wrong):
    with pytest.raises(ValueError, match="4 rigid_keypoints and 4 keypoints of the inner_mouth"):
        DetailRenderer(**(DETAIL | wrong))


@pytest.mark.parametrize(("config", "size"), CASES)
def test_gradients_are_the_same_where_blocks_are_computed_again(config, size):
    model = build(config)
    batch = clips(1, 1, size)
    gradients = []
    for checkpointing in (False, True):
        model.zero_grad()
        model.enable_gradient_checkpointing() if checkpointing else model.disable_gradient_checkpointing()
        assert model.is_gradient_checkpointing == checkpointing
        model(*batch).frames.square().mean().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys() and all(
        gradient.abs().max() > 0 for name, gradient in gradients[0].items() if "decoder" in name
    )
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize(
    "config",
    [
        dict(depth=4, down_channels=(4, 8, 8), up_channels=(8, 8, 4), downscale=4),
        dict(down_channels=(4, 8, 8), up_channels=(8, 4), downscale=2, blur_size=5, blur_sigma=0.5),
    ],
    ids=["published", "landmarks"],
)
@torch.no_grad()
def test_keypoint_detectors(config, tmp_path):
    torch.manual_seed(0)
    detector = (CanonicalKeypointDetector if "depth" in config else LandmarkDetector)(keypoints=5, **config).eval()
    pictures = torch.rand(2, 3, 128, 128)
    out = detector(pictures)
    assert out.keypoints.shape == (2, 5, 3) and out.prediction_map.shape[:3] == (2, 5, config.get("depth", 1))
    assert out.keypoints[..., :2].abs().max() <= 1
    torch.testing.assert_close(out.keypoints[1:], detector(pictures[1:]).keypoints, atol=1e-6, rtol=1e-5)
    detector.save_pretrained(tmp_path)
    again = load_component(tmp_path)
    torch.testing.assert_close(again(pictures).keypoints, out.keypoints)


@torch.no_grad()
def test_motion_estimator():
    torch.manual_seed(0)
    estimator = MotionEstimator(
        keypoints=5, stem_channels=4, channels=(8, 16), blocks=(1, 2), downscale=2, pooled_size=2
    ).eval()
    out = estimator(torch.rand(2, 3, 128, 128))
    assert out.yaw.shape == out.pitch.shape == out.roll.shape == (2, 66)
    assert out.translation.shape == (2, 3) and out.expression.shape == (2, 15)
