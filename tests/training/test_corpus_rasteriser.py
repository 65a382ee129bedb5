"""The renderer's kernels, against plain numpy."""

import numpy as np
import pytest

pytest.importorskip("numba")

from training.corpus.rasteriser import SHEET, SHELL, SOLID, interpolate, rasterise

SIZE = 24
NOTHING_CUT = np.ones((2, 2), bool)


def drawn(corners, z, kind):
    """corners (F,3,2), z (F,3), kind (F,) -> as `rasterise` gives, every triangle with vertices of its own."""
    count = len(corners)
    faces = np.arange(3 * count, dtype=np.int32).reshape(count, 3)
    uv = np.zeros((count, 3, 2), np.float32)
    xy, z = np.float32(corners).reshape(-1, 2), np.float32(z).ravel()
    return (*rasterise(xy, z, faces, np.uint8(kind), uv, NOTHING_CUT, SIZE, SIZE), faces, xy)


def twice_area(corners):
    """Of triangles (F,3,2), with its sign: (F,)"""
    one, other = np.moveaxis(corners[:, :2] - corners[:, 2:], 1, 0)
    return one[:, 0] * other[:, 1] - one[:, 1] * other[:, 0]


def inside(corners):
    """(SIZE,SIZE) how far pixels are inside a triangle (3,2): the least of their three weights."""
    a, b, c = np.float64(corners)
    x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    area = (b[1] - c[1]) * (a[0] - c[0]) + (c[0] - b[0]) * (a[1] - c[1])
    u = ((b[1] - c[1]) * (x - c[0]) + (c[0] - b[0]) * (y - c[1])) / area
    v = ((c[1] - a[1]) * (x - c[0]) + (a[0] - c[0]) * (y - c[1])) / area
    return np.minimum(np.minimum(u, v), 1 - u - v)


def triangles(rng, count):
    """Of all sizes, many with level or upright edges, some beyond the picture."""
    centres = rng.uniform(-4, SIZE + 4, (count, 1, 2))
    corners = centres + rng.normal(0, 1, (count, 3, 2)) * rng.choice([0.7, 3, 12], (count, 1, 1))
    corners[::3, 1, 1] = corners[::3, 0, 1]
    corners[1::3, 2, 0] = corners[1::3, 0, 0]
    corners[::7] = np.round(corners[::7])
    flat = np.abs(twice_area(corners)) < 0.05
    return corners[~flat]


def test_every_pixel_of_a_triangle_is_drawn_and_no_other():
    for corners in triangles(np.random.default_rng(0), 300):
        triangle, weights, _, faces, xy = drawn(corners[None], np.zeros((1, 3)), [SHEET])
        within = inside(corners)
        sure = np.abs(within) > 1e-3
        assert np.array_equal((triangle >= 0)[sure], (within > 0)[sure])
        places = interpolate(triangle, weights, faces, xy)[triangle >= 0]
        rows, columns = np.nonzero(triangle >= 0)
        assert np.allclose(places, np.stack([columns, rows], 1), atol=0.01)


def test_the_nearest_is_seen_and_solids_from_their_front():
    rng = np.random.default_rng(1)
    corners = triangles(rng, 200)
    z = np.repeat(rng.permutation(len(corners))[:, None], 3, 1)
    kinds = rng.integers(0, 3, len(corners))
    edges = twice_area(corners)
    front = edges > 0 if (drawn([[[0, 0], [9, 0], [0, 9]]], np.zeros((1, 3)), [SOLID])[0] >= 0).any() else edges < 0
    shown = np.array([kind == SHEET or facing for kind, facing in zip(kinds, front, strict=True)])
    assert {SOLID, SHELL} <= set(kinds[~shown])
    covers = np.stack([inside(c) for c in corners])
    near = np.where((covers > 0) & shown[:, None, None], z[:, 0, None, None], -1)
    expected = np.where(near.max(0) >= 0, near.argmax(0), -1)
    triangle, _, depth, *_ = drawn(corners, z, kinds)
    sure = np.abs(covers).min(0) > 1e-3
    assert np.array_equal(triangle[sure], expected[sure])
    assert np.array_equal(depth[sure & (expected >= 0)], near.max(0)[sure & (expected >= 0)])


def test_sheets_are_cut_by_their_texture():
    solid = np.zeros((8, 8), bool)
    solid[:, :4] = True
    faces, kind = np.array([[0, 1, 2]], np.int32), np.array([SHEET], np.uint8)
    xy = np.float32([[0, 0], [16, 0], [0, 16]])
    uv = np.float32([[[0, 0], [7, 0], [0, 7]]])
    shown = rasterise(xy, np.zeros(3, np.float32), faces, kind, uv, solid, SIZE, SIZE)[0] >= 0
    assert shown[2, :7].all() and not shown[2, 9:].any()
