"""The clips that stages 1b and 2 learn expressions from, and the options that the two share."""

from dataclasses import dataclass, field
from pathlib import Path

from eat_hf.models.components import load_component

from ..loop.command_line import Recipe, latent_folder
from ..loop.options import LatentOptions, PictureOptions
from ..loop.trainer import main_process_first
from .clip_pictures import ClipPictures
from .dataset import keypoint_index
from .motion import INNER_LIPS, MotionData


@dataclass
class A2ETOptions(LatentOptions, PictureOptions):
    """Options of this stage."""

    corpus: str = field(default="corpus", metadata={"help": "Corpus folder."})
    runs: str = field(
        default="runs", metadata={"help": "Folder with the runs detector or enhancement, speech and pca."}
    )
    initial: str = field(default="", metadata={"help": "An a2et folder to start from."})
    frames: int = field(default=8, metadata={"help": "Frames drawn from each clip."})
    pca_weight: float = field(default=10.0, metadata={"help": "Of the coefficient term of Eq. 6."})
    evaluation_clips: int = field(default=40, metadata={"help": "Held-out clips to measure on."})


def load_data(options: A2ETOptions, recipe: Recipe, pose_size: int) -> tuple[MotionData, MotionData]:
    """The training and the validation split."""
    runs = Path(options.runs)
    speech_encoder = load_component(runs / "speech/speech_encoder")
    detector = load_component(latent_folder(runs, "keypoint_detector"))
    exponent = recipe.components["expression_basis"]["hull_volume_exponent"]
    with main_process_first():
        data, held_out = (
            MotionData(options.corpus, split, speech_encoder, detector, pose_size, exponent)
            for split in ("train", "validation")
        )
        if options.compare_pictures():
            data.pictures = ClipPictures(options.corpus, "train")
    data.least_certain = options.least_certain
    keypoint_index(data.keypoint_names, *INNER_LIPS)  # a mistake should show before the training, not after it
    return data, held_out
