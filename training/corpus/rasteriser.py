"""A small software renderer: z-buffer, textured and lit per pixel. Picture coordinates in, linear RGB out.

Triangles with a cut-out flag are tested against the texture's alpha while they are rasterised, which gives hair, lashes
and collars soft outlines without sorting. All functions are compiled by numba and run on one thread.
"""

import numba as nb
import numpy as np

_jit = nb.njit(cache=True, fastmath=True, error_model="numpy")

# Plain literals would turn the arithmetic below into float64.
_ZERO, _HALF, _ONE, _THREE, _TINY = np.float32(0), np.float32(0.5), np.float32(1), np.float32(3), np.float32(1e-9)
_EDGE = np.float32(-1e-4)  # pixels on a shared edge belong to both triangles: no cracks
_MARGIN = np.float32(1e-3)  # pixels
_FLAT, _FAR = np.float32(1e-12), np.float32(1e30)

SOLID, SHEET, SHELL = 0, 1, 2
"""Kinds of faces: opaque and seen from their front alone; cut out by the texture and seen from both sides; and cut out,
but seen from their front alone."""


@_jit
def rasterise(xy, z, faces, kind, uv, solid, height, width):
    """Visible triangle and weights at every pixel; larger z is nearer.

    xy (V,2) pixels, z (V,), faces (F,3) int32, kind (F,) uint8: one of SOLID, SHEET and SHELL; solid (h,w) bool: where
    the texture is not cut out, at uv (F,3,2) texels.
    Returns triangle (height,width) int32 (-1: background), weights (height,width,2) of its first two corners, undefined
    on the background, and depth (height,width).
    """
    triangle = np.full((height, width), np.int32(-1), np.int32)
    weights = np.empty((height, width, 2), np.float32)
    depth = np.full((height, width), np.float32(-1e30))
    rows, columns = solid.shape
    last_column, last_row = np.float32(width - 1), np.float32(height - 1)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        x0, y0, x1, y1, x2, y2 = xy[a, 0], xy[a, 1], xy[b, 0], xy[b, 1], xy[c, 0], xy[c, 1]
        area = (y1 - y2) * (x0 - x2) + (x2 - x1) * (y0 - y2)
        cut = kind[f] != SOLID
        if abs(area) < _TINY or (area < _ZERO and kind[f] != SHEET):
            continue
        left = np.ceil(max(min(x0, x1, x2) - _MARGIN, _ZERO))
        right = np.floor(min(max(x0, x1, x2) + _MARGIN, last_column))
        top = int(np.ceil(max(min(y0, y1, y2) - _MARGIN, _ZERO)))
        bottom = int(np.floor(min(max(y0, y1, y2) + _MARGIN, last_row)))
        if left > right or top > bottom:
            continue
        inverse = _ONE / area
        step_u, step_v = (y1 - y2) * inverse, (y2 - y0) * inverse
        step_u = step_u if abs(step_u) > _FLAT else _FLAT
        step_v = step_v if abs(step_v) > _FLAT else _FLAT
        step_w = -step_u - step_v
        step_w = step_w if abs(step_w) > _FLAT else _FLAT
        across_u, across_v, across_w = _ONE / step_u, _ONE / step_v, _ONE / step_w
        # An edge bounds the pixels of a row on one side alone; to the other one it is moved far away.
        not_right_u = _FAR if across_u > _ZERO else _ZERO
        not_right_v = _FAR if across_v > _ZERO else _ZERO
        not_right_w = _FAR if across_w > _ZERO else _ZERO
        not_left_u, not_left_v, not_left_w = _FAR - not_right_u, _FAR - not_right_v, _FAR - not_right_w
        down_u, down_v = (x2 - x1) * inverse, (x0 - x2) * inverse
        zu, zv, zc = z[a] - z[c], z[b] - z[c], z[c]
        step_z = step_u * zu + step_v * zv
        u_row, v_row = down_u * (np.float32(top) - y2), down_v * (np.float32(top) - y2)  # at x = x2
        for y in range(top, bottom + 1):
            # The row's pixels that are on the inner side of all three edges, as offsets from x2.
            first, last = left - x2, right - x2
            until_u, until_v = (_EDGE - u_row) * across_u, (_EDGE - v_row) * across_v
            until_w = (_EDGE - _ONE + u_row + v_row) * across_w
            first = max(first, max(until_u - not_left_u, max(until_v - not_left_v, until_w - not_left_w)))
            last = min(last, min(until_u + not_right_u, min(until_v + not_right_v, until_w + not_right_w)))
            start, stop = int(np.ceil(first + x2 - _MARGIN)), int(np.floor(last + x2 + _MARGIN))
            if start <= stop:
                offset = np.float32(start) - x2
                u, v = u_row + step_u * offset, v_row + step_v * offset
                near = u * zu + v * zv + zc
                for x in range(start, stop + 1):
                    if near > depth[y, x]:
                        seen = True
                        if cut:
                            w = _ONE - u - v
                            tx = int(u * uv[f, 0, 0] + v * uv[f, 1, 0] + w * uv[f, 2, 0] + _HALF)
                            ty = int(u * uv[f, 0, 1] + v * uv[f, 1, 1] + w * uv[f, 2, 1] + _HALF)
                            tx = tx - columns if tx >= columns else tx
                            seen = solid[min(max(ty, 0), rows - 1), max(tx, 0)]
                        if seen:
                            depth[y, x] = near
                            triangle[y, x] = f
                            weights[y, x, 0] = u
                            weights[y, x, 1] = v
                    u += step_u
                    v += step_v
                    near += step_z
            u_row += down_u
            v_row += down_v
    return triangle, weights, depth


@_jit
def interpolate(triangle, weights, faces, values):
    """Values (V,n) at every pixel of `rasterise`: (height,width,n). On the background those of some vertex."""
    height, width = triangle.shape
    mixed = np.empty((height, width, values.shape[1]), np.float32)
    for y in range(height):
        for x in range(width):
            f = triangle[y, x]
            u, v = weights[y, x, 0], weights[y, x, 1]
            if f < 0:
                f, u, v = 0, _ZERO, _ZERO
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            w = _ONE - u - v
            for k in range(values.shape[1]):
                mixed[y, x, k] = u * values[a, k] + v * values[b, k] + w * values[c, k]
    return mixed


@_jit
def move_vertices(vertices, basis, reach, units, weights):
    """vertices (V,3) plus the displacements of some units at their weights, of the first vertices alone.

    basis (U,W,3), W at most V; reach (U,2): from which to which vertex a unit moves any; units, weights (n,).
    """
    moved = vertices.copy()
    for i in range(units.shape[0]):
        unit, weight = units[i], weights[i]
        for vertex in range(reach[unit, 0], reach[unit, 1]):
            for k in range(3):
                moved[vertex, k] += weight * basis[unit, vertex, k]
    return moved


@_jit
def pose_vertices(vertices, follow, rotation, translation, torso):
    """Turn and move vertices (V,3) with the head as far as they follow it (V,), else with the torso.

    rotation (3,3); translation, torso (3,): how far head and torso move."""
    posed = np.empty_like(vertices)
    for i in range(vertices.shape[0]):
        x, y, z = vertices[i, 0], vertices[i, 1], vertices[i, 2]
        share = follow[i]
        for k in range(3):
            head = rotation[k, 0] * x + rotation[k, 1] * y + rotation[k, 2] * z + translation[k]
            still = vertices[i, k] + torso[k]
            posed[i, k] = still + share * (head - still)
    return posed


@_jit
def project(points, distance, plane, size):
    """`heads.in_perspective` in pixels of a picture `size` wide: (V,2)."""
    xy = np.empty((points.shape[0], 2), np.float32)
    nearness, half = _ONE / distance, size * _HALF
    for i in range(points.shape[0]):
        scale = half / (_ONE - (points[i, 2] - plane) * nearness)
        xy[i, 0] = points[i, 0] * scale + half - _HALF
        xy[i, 1] = points[i, 1] * scale + half - _HALF
    return xy


@_jit
def seen_from_light(points, view, scale, middle):
    """Points (V,3) as the key light sees them: places (V,2) in pixels, `scale` a picture unit around `middle`, and
    nearness (V,). view (3,3): rotation whose last row is towards the light."""
    xy, nearness = np.empty((points.shape[0], 2), np.float32), np.empty(points.shape[0], np.float32)
    for i in range(points.shape[0]):
        x, y, z = points[i, 0], points[i, 1], points[i, 2]
        for k in range(2):
            xy[i, k] = (view[k, 0] * x + view[k, 1] * y + view[k, 2] * z) * scale + middle
        nearness[i] = view[2, 0] * x + view[2, 1] * y + view[2, 2] * z
    return xy, nearness


@_jit
def pack_corners(normals, openness, inside, share, light_xy, light_nearness, bias):
    """What `shade` needs of every vertex: (V,7). `share` of the openness is left to the vertices `inside` (n,)."""
    corners = np.empty((normals.shape[0], 7), np.float32)
    for i in range(normals.shape[0]):
        for k in range(3):
            corners[i, k] = normals[i, k]
        corners[i, 3] = openness[i]
        corners[i, 4], corners[i, 5] = light_xy[i, 0], light_xy[i, 1]
        corners[i, 6] = light_nearness[i] + bias
    for i in inside:
        corners[i, 3] *= share
    return corners


@_jit
def vertex_normals(vertices, faces):
    """Area-weighted unit normals (V,3); faces (F,3) clockwise as seen in the picture face the viewer."""
    normals = np.zeros_like(vertices)
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ex, ey, ez = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        gx, gy, gz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = ey * gz - ez * gy, ez * gx - ex * gz, ex * gy - ey * gx
        for k in (a, b, c):
            normals[k, 0] += nx
            normals[k, 1] += ny
            normals[k, 2] += nz
    for i in range(normals.shape[0]):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2) + _TINY
        for k in range(3):
            normals[i, k] /= length
    return normals


@_jit
def shade(
    triangle, weights, faces, uv, corners, gloss, softness, texture,
    light, light_colour, ambient, light_depth, nearest, farthest, background,
):  # fmt: skip
    """Colour every pixel: (height,width,3) float32 linear RGB.

    triangle, weights from `rasterise`. corners (V,7), of every vertex: its normal, its openness, how much ambient light
    reaches it, 0 to 1, and its place as seen from the key light, in pixels of light_depth and in depth. Per face gloss
    (F,2) (strength, exponent) and softness (F,), how far light wraps round the terminator (skin lets red through
    most); texture (h,w,3) uint8, whose square is the albedo; light, unit vector towards the key light, with its colour;
    ambient (9,3), irradiance of all other light in spherical harmonics (`looks.irradiance`); light_depth (n,n), what
    the key light sees, and the nearest and farthest of it in the 4x4 pixels from one before each; background
    (height,width,3).
    """
    height, width = triangle.shape
    out = np.empty((height, width, 3), np.float32)
    rows, columns = texture.shape[0], texture.shape[1]
    light_size = light_depth.shape[0]
    lx, ly, lz = light[0], light[1], light[2]
    hx, hy, hz = lx, ly, lz + _ONE
    length = np.sqrt(hx * hx + hy * hy + hz * hz) + _TINY
    hx, hy, hz = hx / length, hy / length, hz / length
    last_row = np.float32(rows - 1.001)
    third, level = np.float32(1 / 3), np.float32(1 / 255)
    closed = np.float32(0.25)  # key light that reaches even a crevice: its surroundings scatter it
    for y in range(height):
        for x in range(width):
            f = triangle[y, x]
            if f < 0:
                for k in range(3):
                    out[y, x, k] = background[y, x, k]
                continue
            u, v = weights[y, x, 0], weights[y, x, 1]
            w = _ONE - u - v
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            nx = u * corners[a, 0] + v * corners[b, 0] + w * corners[c, 0]
            ny = u * corners[a, 1] + v * corners[b, 1] + w * corners[c, 1]
            nz = u * corners[a, 2] + v * corners[b, 2] + w * corners[c, 2]
            open_ = u * corners[a, 3] + v * corners[b, 3] + w * corners[c, 3]
            px = u * corners[a, 4] + v * corners[b, 4] + w * corners[c, 4]
            py = u * corners[a, 5] + v * corners[b, 5] + w * corners[c, 5]
            pz = u * corners[a, 6] + v * corners[b, 6] + w * corners[c, 6]
            inverse = _ONE / (np.sqrt(nx * nx + ny * ny + nz * nz) + _TINY)
            if nz < _ZERO:  # the back of a sheet
                inverse = -inverse
            nx, ny, nz = nx * inverse, ny * inverse, nz * inverse

            lit = _ONE
            column, row = int(px), int(py)
            if column >= 1 and row >= 1 and column < light_size - 2 and row < light_size - 2:
                if farthest[row, column] > pz:
                    lit = _ZERO
                elif nearest[row, column] > pz:  # on the edge of a shadow, soft by 3x3 taps
                    fx, fy = px - np.float32(column), py - np.float32(row)
                    lit = _ZERO
                    for dy in range(-1, 3):
                        wy = (_ONE - fy) if dy == -1 else (fy if dy == 2 else _ONE)
                        for dx in range(-1, 3):
                            wx = (_ONE - fx) if dx == -1 else (fx if dx == 2 else _ONE)
                            if light_depth[row + dy, column + dx] <= pz:
                                lit += wx * wy
                    lit *= np.float32(1 / 9)
            shadow = lit * (closed + (_ONE - closed) * open_)

            tx = max(u * uv[f, 0, 0] + v * uv[f, 1, 0] + w * uv[f, 2, 0], _ZERO)
            ty = min(max(u * uv[f, 0, 1] + v * uv[f, 1, 1] + w * uv[f, 2, 1], _ZERO), last_row)
            column, row = int(tx), int(ty)
            fx, fy = tx - np.float32(column), ty - np.float32(row)
            column = column - columns if column >= columns else column
            following = column + 1 if column + 1 < columns else 0
            w00, w01, w10, w11 = (_ONE - fx) * (_ONE - fy), fx * (_ONE - fy), (_ONE - fx) * fy, fx * fy

            facing = nx * lx + ny * ly + nz * lz
            half = nx * hx + ny * hy + nz * hz
            highlight = _ZERO
            if gloss[f, 0] > _ZERO and half > _HALF and shadow > _ZERO:
                highlight = gloss[f, 0] * half ** gloss[f, 1] * shadow
            xy, yz, xz, zz, xx = nx * ny, ny * nz, nx * nz, _THREE * nz * nz - _ONE, nx * nx - ny * ny
            for k in range(3):
                shown = (
                    np.float32(texture[row, column, k]) * w00
                    + np.float32(texture[row, following, k]) * w01
                    + np.float32(texture[row + 1, column, k]) * w10
                    + np.float32(texture[row + 1, following, k]) * w11
                ) * level
                wrap = softness[f] * (_ONE - third * np.float32(k))
                key = max((facing + wrap) / (_ONE + wrap), _ZERO) * light_colour[k] * shadow
                around = (
                    ambient[0, k] + ambient[1, k] * nx + ambient[2, k] * ny + ambient[3, k] * nz
                    + ambient[4, k] * xy + ambient[5, k] * yz + ambient[6, k] * xz
                    + ambient[7, k] * zz + ambient[8, k] * xx
                )  # fmt: skip
                out[y, x, k] = shown * shown * (key + max(around, _ZERO) * open_) + highlight * light_colour[k]
    return out


@_jit
def expose(light, gain, saturation, contrast, tint, base, span):
    """Linear light (h,w,3) to display values, in place: its root, less or more saturated, contrasty and tinted.

    gain (h,w): exposure and vignette; tint (3,); `base` and `span`: the darkest value and how far the brightest is from
    it."""
    for y in range(light.shape[0]):
        for x in range(light.shape[1]):
            grey = _ZERO
            for k in range(3):
                value = np.sqrt(max(light[y, x, k] * gain[y, x], _ZERO))
                light[y, x, k] = value
                grey += value
            grey *= np.float32(1 / 3)
            for k in range(3):
                value = grey + saturation * (light[y, x, k] - grey)
                light[y, x, k] = base + span * tint[k] * (_HALF + contrast * (value - _HALF))


@_jit
def quantise(picture, grain, strength, down, across):
    """Display values (n,n,3) with the sensor's grain, shifted down and across, as uint8."""
    size = picture.shape[0]
    shown = np.empty(picture.shape, np.uint8)
    full = np.float32(255)
    for y in range(size):
        from_row = y - down if y >= down else y - down + size
        for x in range(size):
            from_column = x - across if x >= across else x - across + size
            for k in range(3):
                value = picture[y, x, k]
                if strength > _ZERO:
                    value += strength * grain[from_row, from_column, k]
                shown[y, x, k] = np.uint8(min(max(value, _ZERO), _ONE) * full + _HALF)
    return shown
