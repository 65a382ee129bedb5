"""What every tensor of ours is called in the authors' release.

The tables go from our names to theirs, so that a checkpoint can be compared with everything the networks need. Each
rule is a regular expression and its replacement, applied in order.
"""

import re
from collections.abc import Callable, Iterable

Rule = tuple[str, str | Callable[[re.Match], str]]


def _every_second(prefix: str) -> Callable[[re.Match], str]:
    """Theirs number layers inside a Sequential, where activations take every second place."""
    return lambda match: f"{prefix.format(*match.groups()[:-1])}{2 * int(match.groups()[-1])}."


_EAM: tuple[Rule, ...] = ((r"\breduce\.", "fc.0."), (r"\bexpand\.", "fc.2."))

_DOWN_BLOCKS: tuple[Rule, ...] = (
    (r"^(\w*feature_extract\.\d+)\.(norm|conv)1\.", r"\1.conv_block_0.layers.\2."),
    (r"^(\w*feature_extract\.\d+)\.(norm|conv)2\.", r"\1.conv_block_1.layers.\2."),
    (r"^(\w*feature_extract\.\d+)\.shortcut\.0\.", r"\1.conv_block_s.layers.norm."),
    (r"^(\w*feature_extract\.\d+)\.shortcut\.1\.", r"\1.conv_block_s.layers.conv."),
)

_TRANSFORMER: tuple[Rule, ...] = ((r"^(encoder|decoder)\.", r"transformer.\1."),)

_PITCH_NETWORK: tuple[Rule, ...] = (
    (r"^pitch_network\.conv1\.", "f0_model.conv_block.0."),
    (r"^pitch_network\.norm\.", "f0_model.conv_block.1."),
    (r"^pitch_network\.conv2\.", "f0_model.conv_block.3."),
    (r"^pitch_network\.blocks\.(\d)\.", lambda match: f"f0_model.res_block{int(match[1]) + 1}."),
    (r"^(f0_model\.res_block\d)\.pool_norm\.", r"\1.pre_conv.0."),
    (r"^(f0_model\.res_block\d)\.conv1\.", r"\1.conv.0."),
    (r"^(f0_model\.res_block\d)\.norm\.", r"\1.conv.1."),
    (r"^(f0_model\.res_block\d)\.conv2\.", r"\1.conv.3."),
    (r"^(f0_model\.res_block\d)\.shortcut\.", r"\1.conv1by1."),
    (r"^pitch_network\.output_norm\.", "f0_model.pool_block.0."),
)

RULES: dict[str, tuple[Rule, ...]] = {
    "keypoint_detector": (
        (r"^downs\.", "predictor.down_blocks.down"),
        (r"^ups\.", "predictor.up_blocks.up"),
        (r"^to_volume\.", "predictor.conv."),
        (r"^head\.", "kp."),
    ),
    "motion_estimator": (
        (r"^stem\.(conv|norm)\.", r"\g<1>1."),
        (r"^stages\.(\d)\.widen\.(conv|norm)\.", lambda match: f"{match[2]}{int(match[1]) + 2}."),
        (r"^stages\.0\.blocks\.", "block1.b1_"),
        (r"^stages\.(\d)\.blocks\.0\.", lambda match: f"block{2 * int(match[1])}."),
        (
            r"^stages\.(\d)\.blocks\.(\d)\.",
            lambda match: "block{0}.b{0}_{1}.".format(2 * int(match[1]) + 1, int(match[2]) - 1),
        ),
        (r"\.skip_norm\.", ".norm4."),
        # the release's layers are named the wrong way round: fc_roll holds the yaw
        (r"^yaw\.", "fc_roll."),
        (r"^roll\.", "fc_yaw."),
        (r"^pitch\.", "fc_pitch."),
        (r"^translation\.", "fc_t."),
        (r"^expression\.", "fc_exp."),
    ),
    "repos_net": (
        *_EAM,
        (r"^volume_eam\.", "ea3d."),
        (r"^dense_motion\.compress\.conv\.", "dense_motion_network.compress."),
        (r"^dense_motion\.compress\.norm\.", "dense_motion_network.norm."),
        (r"^dense_motion\.hourglass\.downs\.", "dense_motion_network.hourglass.encoder.down_blocks."),
        (r"^dense_motion\.hourglass\.ups\.", "dense_motion_network.hourglass.decoder.up_blocks."),
        (r"^dense_motion\.hourglass\.final\.", "dense_motion_network.hourglass.decoder."),
        (r"^dense_motion\.", "dense_motion_network."),
        (r"^downs\.", "down_blocks."),
        (r"^to_volume\.", "second."),
        (r"^refine_volume\.", "resblocks_3d.3dr"),
        (r"^flatten\.", "third."),
        (r"^project\.", "fourth."),
        (r"^decoder\.stem\.", "decoder.fc."),
        (r"^stem\.", "first."),
        (r"^decoder\.to_rgb\.", "decoder.conv_img."),
        (r"^decoder\.middle\.", "decoder.G_middle_"),
        (r"^decoder\.ups\.", "decoder.up_"),
        (r"^(decoder\.(?:G_middle|up)_\d)\.(conv|norm)1\.", r"\1.\2_0."),
        (r"^(decoder\.(?:G_middle|up)_\d)\.(conv|norm)2\.", r"\1.\2_1."),
        (r"^(decoder\.(?:G_middle|up)_\d)\.shortcut_norm\.", r"\1.norm_s."),
        (r"^(decoder\.(?:G_middle|up)_\d)\.shortcut\.", r"\1.conv_s."),
        (r"\.shared\.", ".mlp_shared.0."),
        (r"\.(gamma|beta)\.", r".mlp_\1."),
    ),
    "a2et": (
        *_EAM,
        (r"^head_pose_projection\.", "hp_extractor."),
        (r"^face_projection\.", "face_shrink."),
        (r"^face_eam\.", "fea."),
        (r"^semantic_convs\.(\d)\.", _every_second("audio_embedding.")),
        (r"^speech_fusion\.", "encoder_fc1."),
        (r"^sound_conv1\.", "audio_embedding2.0."),
        (r"^sound_norm\.", "audio_embedding2.1."),
        (r"^sound_conv2\.", "audio_embedding2.3."),
        (r"^acoustic_encoder\.pitch_block\.", "audioencoder.F0_conv.0."),
        (r"^acoustic_encoder\.", "audioencoder."),
        (r"^(audioencoder\..*)\.eam\.", r"\1."),
        (r"^(audioencoder\..*)\.shortcut\.", r"\1.conv1x1."),
        (r"^acoustic_token\.blocks\.", "decodefeature_extract."),
        (r"^pose_token\.blocks\.", "feature_extract."),
        (r"^head\.", "kp."),
        *_DOWN_BLOCKS,
        *_TRANSFORMER,
        *_PITCH_NETWORK,
    ),
    "edn": (
        (r"^face_token\.blocks\.", "decodefeature_extract."),
        (r"^head\.", "emokp."),
        *_DOWN_BLOCKS,
        *_TRANSFORMER,
    ),
    "emotion_mapper": (
        (r"^shared\.(\d)\.", _every_second("mappingnet.shared.")),
        (r"^heads\.(\d+)\.(\d)\.", _every_second("mappingnet.unshared.{0}.")),
    ),
}

# tensors of ours that the release keeps elsewhere than in its checkpoint
NOT_IN_CHECKPOINT = {"a2et": ("mel_padding", "semantic_padding")}

# weights that the release stores before spectral norm, with the vectors that estimate their largest singular value
SPECTRAL_NORM = re.compile(r"^decoder\.(?:G_middle|up)_\d\.conv_[01s]\.weight$")


def official_names(component: str, names: Iterable[str]) -> dict[str, str]:
    """Our tensor names -> the release's, for one component."""
    skipped = NOT_IN_CHECKPOINT.get(component, ())
    mapping = {}
    for ours in names:
        if ours in skipped:
            continue
        theirs = ours
        for pattern, replacement in RULES[component]:
            theirs = re.sub(pattern, replacement, theirs)
        mapping[ours] = theirs
    return mapping
