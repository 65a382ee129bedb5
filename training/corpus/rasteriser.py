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


@_jit
def rasterise(xy, z, faces, sheet, uv, solid, height, width):
    """Visible triangle and weights at every pixel; larger z is nearer.

    xy (V,2) pixels, z (V,), faces (F,3) int32, sheet (F,) bool: seen from both sides and cut by `solid`, (h,w) bool in
    texture space, at uv (F,3,2) texels; all other faces are opaque and seen from their front alone.
    Returns triangle (height,width) int32 (-1: background), weights (height,width,2) of its first two corners and
    depth (height,width).
    """
    triangle = np.full((height, width), -1, np.int32)
    weights = np.zeros((height, width, 2), np.float32)
    depth = np.full((height, width), np.float32(-1e30))
    rows, columns = solid.shape
    for f in range(faces.shape[0]):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        x0, y0, x1, y1, x2, y2 = xy[a, 0], xy[a, 1], xy[b, 0], xy[b, 1], xy[c, 0], xy[c, 1]
        area = (y1 - y2) * (x0 - x2) + (x2 - x1) * (y0 - y2)
        if abs(area) < 1e-9 or (area < 0 and not sheet[f]):
            continue
        left = max(int(np.ceil(min(x0, x1, x2) - 1e-3)), 0)
        right = min(int(np.floor(max(x0, x1, x2) + 1e-3)), width - 1)
        top = max(int(np.ceil(min(y0, y1, y2) - 1e-3)), 0)
        bottom = min(int(np.floor(max(y0, y1, y2) + 1e-3)), height - 1)
        if left > right or top > bottom:
            continue
        inverse = _ONE / area
        step_u, step_v = (y1 - y2) * inverse, (y2 - y0) * inverse
        cut = sheet[f]
        za, zb, zc = z[a], z[b], z[c]
        from_left = np.float32(left) - x2
        for y in range(top, bottom + 1):
            down = np.float32(y) - y2
            u = (y1 - y2) * inverse * from_left + (x2 - x1) * inverse * down
            v = (y2 - y0) * inverse * from_left + (x0 - x2) * inverse * down
            for x in range(left, right + 1):
                w = _ONE - u - v
                if u >= _EDGE and v >= _EDGE and w >= _EDGE:
                    near = u * za + v * zb + w * zc
                    if near > depth[y, x]:
                        seen = True
                        if cut:
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
    return triangle, weights, depth


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
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2) + 1e-12
        for k in range(3):
            normals[i, k] /= length
    return normals


@_jit
def shade(
    triangle, weights, faces, uv, normals, openness, gloss, softness, texture,
    light, light_colour, ambient, lit, background,
):  # fmt: skip
    """Colour every pixel: (height,width,3) float32 linear RGB.

    triangle, weights from `rasterise`; normals (V,3); openness (V,), how much ambient light reaches a vertex, 0 to 1;
    per face gloss (F,2) (strength, exponent) and softness (F,), how far light wraps round the terminator (skin lets red
    through most); texture (h,w,3) uint8, whose square is the albedo; light, unit vector towards the key light, with its
    colour; ambient (9,3), irradiance of all other light in spherical harmonics (`looks.irradiance`); lit
    (height,width), 0 where the key light is shadowed; background (height,width,3).
    """
    height, width = triangle.shape
    out = np.empty((height, width, 3), np.float32)
    rows, columns = texture.shape[0], texture.shape[1]
    hx, hy, hz = light[0], light[1], light[2] + _ONE
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
            nx = u * normals[a, 0] + v * normals[b, 0] + w * normals[c, 0]
            ny = u * normals[a, 1] + v * normals[b, 1] + w * normals[c, 1]
            nz = u * normals[a, 2] + v * normals[b, 2] + w * normals[c, 2]
            inverse = _ONE / (np.sqrt(nx * nx + ny * ny + nz * nz) + _TINY)
            if nz < _ZERO:  # the back of a sheet
                inverse = -inverse
            nx, ny, nz = nx * inverse, ny * inverse, nz * inverse
            tx = max(u * uv[f, 0, 0] + v * uv[f, 1, 0] + w * uv[f, 2, 0], _ZERO)
            ty = min(max(u * uv[f, 0, 1] + v * uv[f, 1, 1] + w * uv[f, 2, 1], _ZERO), last_row)
            column, row = int(tx), int(ty)
            fx, fy = tx - np.float32(column), ty - np.float32(row)
            column = column - columns if column >= columns else column
            following = column + 1 if column + 1 < columns else 0
            facing = nx * light[0] + ny * light[1] + nz * light[2]
            half = nx * hx + ny * hy + nz * hz
            open_ = u * openness[a] + v * openness[b] + w * openness[c]
            shadow = lit[y, x] * (closed + (_ONE - closed) * open_)
            highlight = _ZERO
            if gloss[f, 0] > _ZERO and half > _HALF:
                highlight = gloss[f, 0] * half ** gloss[f, 1] * shadow
            w00, w01, w10, w11 = (_ONE - fx) * (_ONE - fy), fx * (_ONE - fy), (_ONE - fx) * fy, fx * fy
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
                    + ambient[4, k] * nx * ny + ambient[5, k] * ny * nz + ambient[6, k] * nx * nz
                    + ambient[7, k] * (_THREE * nz * nz - _ONE) + ambient[8, k] * (nx * nx - ny * ny)
                )  # fmt: skip
                out[y, x, k] = shown * shown * (key + max(around, _ZERO) * open_) + highlight * light_colour[k]
    return out


@_jit
def shadow_test(triangle, weights, faces, in_light, light_depth, bias):
    """1 where the key light reaches a pixel, 0 in shadow, soft by 3x3 taps: (height,width) float32.

    in_light (V,3): vertices as seen from the light, x and y in pixels of light_depth.
    """
    height, width = triangle.shape
    rows, columns = light_depth.shape
    lit = np.ones((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            f = triangle[y, x]
            if f < 0:
                continue
            u, v = weights[y, x, 0], weights[y, x, 1]
            w = _ONE - u - v
            a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
            px = u * in_light[a, 0] + v * in_light[b, 0] + w * in_light[c, 0]
            py = u * in_light[a, 1] + v * in_light[b, 1] + w * in_light[c, 1]
            pz = u * in_light[a, 2] + v * in_light[b, 2] + w * in_light[c, 2] + bias
            column, row = int(px), int(py)
            if column < 1 or row < 1 or column >= columns - 2 or row >= rows - 2:
                continue
            fx, fy = px - np.float32(column), py - np.float32(row)
            reached = _ZERO
            for dy in range(-1, 3):
                wy = (_ONE - fy) if dy == -1 else (fy if dy == 2 else _ONE)
                for dx in range(-1, 3):
                    wx = (_ONE - fx) if dx == -1 else (fx if dx == 2 else _ONE)
                    if light_depth[row + dy, column + dx] <= pz:
                        reached += wx * wy
            lit[y, x] = reached * np.float32(1 / 9)
    return lit
