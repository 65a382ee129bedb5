"""A small stand-in for ICT FaceKit, which the project does not carry: the same layout, made from the first family."""

import numpy as np

from training.corpus.facekit_heads import _TONGUE
from training.corpus.heads import ARKIT_NAMES
from training.corpus.makehuman_heads import HeadAssets, makehuman_mesh


def write_stand_in(path):
    """Write the npz file."""
    assets, mesh = HeadAssets.load(), makehuman_mesh()
    head, landmarks = assets.vertices, mesh.landmarks
    eyes, chin, nose = head[landmarks[36:48]].mean(0), head[landmarks[8]], head[landmarks[30]]
    scale = 11.0 / (eyes[1] - chin[1])  # in centimetres, eyes 3.5 above the origin, the tip of the nose 13 before it
    head = (head - [0, eyes[1], nose[2]]) * scale + [0, 3.5, 13.0]

    vertices, quads, material = [head], [], []
    names = ["M_Face", "M_BackHead", "M_GumsTongue", "M_Teeth", "M_ScleraLeft", "M_ScleraRight", "M_EyeLashes"]

    def add(faces, name):
        faces = faces[:, ::-1]  # theirs are anticlockwise
        quads.append(np.column_stack([faces, faces[:, 2]]))
        material.append(np.full(len(faces), names.index(name)))

    for part, name in (("skin", "M_Face"), ("lining", "M_BackHead"), ("right_eye", "M_ScleraLeft"),
                       ("left_eye", "M_ScleraRight"), ("lashes", "M_EyeLashes")):  # fmt: skip
        add(mesh.faces[mesh.is_part(part)], name)
    count = len(head)
    lip = head[landmarks[[62, 66]]].mean(0)
    box = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
    sides = np.array([[0, 1, 3], [0, 3, 2], [4, 6, 7], [4, 7, 5], [1, 5, 7], [1, 7, 3], [0, 2, 6], [0, 6, 4],
                      [2, 3, 7], [2, 7, 6], [0, 4, 5], [0, 5, 1]])  # fmt: skip
    lower = []
    for arch in (1, -1):
        for tooth in range(16):
            angle = (tooth - 7.5) / 8 * 1.3
            place = lip + [3.0 * np.sin(angle), arch * 0.55, -0.9 - 4 * (1 - np.cos(angle))]
            vertices.append(box * [0.55, 1.0, 0.5] + place)
            add(sides + count, "M_Teeth")
            lower += list(range(count, count + 8)) if arch < 0 else []
            count += 8
    vertices.append(np.zeros((_TONGUE.start - count, 3)) + lip)  # nobody's, up to where the tongue lies
    tongue = box[np.arange(_TONGUE.stop - _TONGUE.start) % 8] * [3, 0.8, 5] + lip - [0, 0.2, 4]
    vertices.append(tongue)
    add(sides + _TONGUE.start, "M_GumsTongue")
    vertices = np.concatenate(vertices)

    expression, expression_names = [], []
    for name in ARKIT_NAMES:
        if name == "tongueOut":
            continue
        delta = np.zeros_like(assets.vertices)
        assets.add_target(delta, f"arkit/{name}", 1.0)
        delta = np.concatenate([delta * scale, np.zeros((len(vertices) - len(delta), 3))])
        if name == "jawOpen":
            delta[lower] = [0, -3.0, -0.5]
        if name in ("browInnerUp", "cheekPuff"):
            expression += [delta / 2, delta / 2]
            expression_names += [f"{name}_L", f"{name}_R"]
        else:
            sided = name[-5:] in ("Right",) or name[-4:] == "Left"
            whole = name in ("jawLeft", "jawRight", "mouthLeft", "mouthRight") or not sided
            expression.append(delta)
            expression_names.append(name if whole else name.replace("Left", "_L").replace("Right", "_R"))
    modes = np.stack([0.03 * (vertices - lip) * axis for axis in np.eye(3)])
    np.savez_compressed(
        path, neutral=vertices.astype(np.float32), identity=modes.astype(np.float16),
        expression=np.stack(expression).astype(np.float16), expression_names=np.array(expression_names),
        quads=np.concatenate(quads).astype(np.int32), material=np.concatenate(material).astype(np.int8),
        material_names=np.array(names), landmarks68=landmarks.astype(np.int32),
        uv=np.zeros((1, 2), np.float32), uv_quads=np.zeros((1, 4), np.int32),
    )  # fmt: skip
    return path
