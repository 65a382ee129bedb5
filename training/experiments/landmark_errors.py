"""How far the landmark network's points are from dlib's, on any pictures with faces.

    python -m training.experiments.landmark_errors --network runs/landmarks/face_landmarks --pictures PICTURE...

Prints a line per picture: the mean distance of the 68 points over that of the outer corners of the eyes (points 36 and
45), in per cent, as a whole and by part of the face, what the network itself expected, and whether the mouth is
covered. The detector finds the face for it; dlib, the judge, finds its own. `--placements true` prints another table:
how often the face is still found, and every picture's points are right, when the picture is turned and scaled. Right is
a mean distance of at most 8 per cent from where the points of the picture as it is have gone.
"""

from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np

from eat_hf.errors import UserError
from eat_hf.inputs.dlib_faces import detect_faces_with_dlib
from eat_hf.inputs.face_detector import find_faces
from eat_hf.inputs.faces import Face, choose_face, detect_faces
from eat_hf.inputs.landmarks import NETWORK, landmark_network, read_landmarks
from eat_hf.media.pictures import read_image

from ..loop.command_line import read_options, run_script

TURNS = np.linspace(-60, 60, 20)  # degrees
WIDTHS = np.geomspace(24, 4000, 10)  # of the face, in pixels
LARGEST_SIDE = 4000  # of a scaled picture, unless the face is larger
RIGHT = 8.0  # per cent
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


def turned(picture: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture turned by so many degrees, as large as it must be to show all of it, with its border repeated; and the
    (2, 3) from pixels to pixels."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, 1.0)
    size = np.ceil(np.abs(matrix[:, :2]) @ (width, height)).astype(int)
    matrix[:, 2] += (size - (width, height)) / 2
    return cv2.warpAffine(picture, matrix, size.tolist(), borderMode=cv2.BORDER_REPLICATE), matrix


def resized(picture: np.ndarray, face: Face, width: float) -> tuple[np.ndarray, np.ndarray]:
    """A picture in which a face is so many pixels wide, or the part of it around the face if it would have a side of
    more than `LARGEST_SIDE`; and the (2, 3) from pixels to pixels."""
    scale = width / (face.box[2] - face.box[0])
    reach = max(LARGEST_SIDE / scale, 1.5 * (face.box[2:] - face.box[:2]).max()) / 2
    middle, sides = (face.box[:2] + face.box[2:]) / 2, picture.shape[1::-1]
    left, top = np.floor(middle - reach).clip(0, sides).astype(int)
    right, bottom = np.ceil(middle + reach).clip(0, sides).astype(int)
    part = picture[top:bottom, left:right]
    size = [max(1, round(n * scale)) for n in part.shape[1::-1]]
    part_scale = np.divide(size, part.shape[1::-1])
    copy = cv2.resize(part, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    shift = part_scale * (0.5 - np.array([left, top])) - 0.5
    return copy, np.column_stack([np.diag(part_scale), shift])


def placed(picture: np.ndarray) -> list[tuple[list[str], int]]:
    """What fails of the turned and of the scaled copies of a picture, in words, and how many copies there were.

    Raises:
        UserError: the picture as it is shows no face.
    """
    face = choose_face(detect_faces(picture))
    turns = [(f"{angle:.0f} degrees", *turned(picture, angle)) for angle in TURNS]
    results = []
    for copies in (turns, [(f"{width:.0f} pixels", *resized(picture, face, width)) for width in WIDTHS]):
        failed = []
        for name, copy, matrix in copies:
            expected = face.landmarks @ matrix[:, :2].T + matrix[:, 2]
            errors = [errors_by_part(found.landmarks, expected)["all"] for found in detect_faces(copy)]
            if min(errors, default=np.inf) > RIGHT:
                failed.append(f"{name}: {min(errors):.0f} %" if errors else f"{name}: not found")
        results.append((failed, len(copies)))
    return results


@dataclass
class ErrorOptions:
    """Options."""

    pictures: list[str] = field(metadata={"help": "Pictures with a face each."})
    network: str = field(default=str(NETWORK), metadata={"help": "Folder of the network."})
    placements: bool = field(
        default=False, metadata={"help": "Turn and scale the pictures, with the network that the package has."}
    )


def main(argv: list[str] | None = None) -> None:
    options = read_options(ErrorOptions, argv)
    if options.placements:
        print(f"| picture | right of {len(TURNS)} turns | right of {len(WIDTHS)} sizes | wrong |\n|---|---|---|---|")
        for path in map(Path, options.pictures):
            results = placed(read_image(path))
            counts = " | ".join(str(copies - len(failed)) for failed, copies in results)
            print(f"| {path.name} | {counts} | {', '.join(results[0][0] + results[1][0])} |", flush=True)
        return
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
