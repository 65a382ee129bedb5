"""How far the landmark network's points are from dlib's, on any pictures with faces.

    python -m training.experiments.landmark_errors --network runs/landmarks/face_landmarks --pictures PICTURE...

Prints a line per picture: the mean distance of the 68 points over that of the outer corners of the eyes (points 36 and
45), in per cent, as a whole and by part of the face, what the network itself expected, and whether the mouth is
covered. The detector finds the face for it; dlib, the judge, finds its own.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from eat_hf.errors import UserError
from eat_hf.inputs.face_detector import find_faces
from eat_hf.inputs.faces import detect_faces_with_dlib
from eat_hf.inputs.landmarks import NETWORK, landmark_network, read_landmarks
from eat_hf.media.pictures import read_image

from ..loop.command_line import read_options, run_script

PARTS = {"all": (0, 68), "jaw": (0, 17), "brows": (17, 27), "nose": (27, 36), "eyes": (36, 48), "mouth": (48, 68)}


def errors_by_part(found: np.ndarray, true: np.ndarray) -> dict[str, float]:
    """Mean distances of points (68, 2) over the distance of the outer corners of the eyes, in per cent."""
    distances = 100 * np.linalg.norm(found - true, axis=1) / np.linalg.norm(true[36] - true[45])
    return {part: float(distances[begin:end].mean()) for part, (begin, end) in PARTS.items()}


def measure(picture: np.ndarray, network) -> dict[str, float] | None:
    """Errors by part, `expected` (per cent of the network's crop) and `covered` of the most prominent face of a picture
    (H, W, 3) uint8; None if dlib or the detector finds no face."""
    judged, found = detect_faces_with_dlib(picture), find_faces(picture)
    if not judged or not found:
        return None
    centre = judged[0].landmarks.mean(0)
    nearest = min(found, key=lambda face: float(np.linalg.norm(face.points.mean(0) - centre)))
    read = read_landmarks(picture, nearest.points, network)
    errors = errors_by_part(read.landmarks, judged[0].landmarks)
    return errors | {"expected": 100 * read.error, "covered": read.covered}


@dataclass
class ErrorOptions:
    """Options."""

    pictures: list[str] = field(metadata={"help": "Pictures with a face each."})
    network: str = field(default=str(NETWORK), metadata={"help": "Folder of the network."})


def main(argv: list[str] | None = None) -> None:
    options = read_options(ErrorOptions, argv)
    folder = Path(options.network)
    if not (folder / "config.json").is_file():
        raise UserError(f"There is no network at {folder}; train one with training.landmarks.train.")
    network = landmark_network(folder)
    columns = [*PARTS, "expected", "covered"]
    print("| picture | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
    rows = []
    for path in map(Path, options.pictures):
        measured = measure(read_image(path), network)
        if measured is None:
            print(f"| {path.name} | no face |")
            continue
        rows.append(list(measured.values()))
        print(f"| {path.name} | " + " | ".join(f"{value:.2f}" for value in rows[-1]) + " |")
    if rows:
        print("| mean | " + " | ".join(f"{value:.2f}" for value in np.mean(rows, 0)) + " |")


if __name__ == "__main__":
    run_script(main)
