"""Pictures as phones, cameras and microscopes write them."""

import io
import struct
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pillow_heif
import pytest
import tifffile
from media_files import scratched
from PIL import Image, ImageCms

from eat_hf.errors import UserError
from eat_hf.media.pictures import read_image


@pytest.fixture
def scene():
    """(48, 64, 3) uint8, smooth and of many colours."""
    y, x = np.mgrid[:48, :64]
    return np.stack([60 + 2 * x, 40 + 3 * y, 200 - x - y], -1).astype(np.uint8)


def exif_with(orientation: int, *broken: bytes) -> bytes:
    """EXIF of a phone, of which other entries are broken."""
    tag = b"\x12\x01\x03\x00\x01\x00\x00\x00" + orientation.to_bytes(4, "little")
    entries = [tag, *broken]
    count = len(entries).to_bytes(2, "little")
    return b"Exif\0\0II*\0\x08\0\0\0" + count + b"".join(entries) + b"\0\0\0\0"


RATIONAL_NOWHERE = b"\x1a\x01\x05\x00\x01\x00\x00\x00\xff\xff\xff\x7f"
NEGATIVE_RATIONAL = b"\x1a\x01\x0a\x00\x01\x00\x00\x00\x08\x00\x00\x00"
TYPE_UNKNOWN = b"\x0f\x01\x63\x00\xff\xff\xff\xff\x00\x00\x00\x00"


@pytest.mark.parametrize("broken", [RATIONAL_NOWHERE, NEGATIVE_RATIONAL, TYPE_UNKNOWN], ids=["nowhere", "sign", "type"])
@pytest.mark.parametrize("orientation, turns", [(6, 1), (3, 2), (8, 3)])
@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_orientation_holds_whatever_else_is_broken(tmp_path, scene, broken, orientation, turns, ending):
    path = tmp_path / f"phone.{ending}"
    Image.fromarray(np.rot90(scene, turns)).save(path, exif=exif_with(orientation, broken), quality=95)
    assert np.abs(read_image(path).astype(int) - scene).mean() < 6


def test_a_directory_without_end(tmp_path, scene):
    exif = exif_with(6)[:-6]  # cut within its only entry, after the orientation
    Image.fromarray(np.rot90(scene)).save(tmp_path / "cut.png", exif=exif)
    assert read_image(tmp_path / "cut.png").shape == scene.shape


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L"])
def test_colours_come_from_the_profile(tmp_path, scene, mode):
    """Saved in a linear space; the profile says what the numbers mean."""
    linear = ImageCms.ImageCmsProfile(io.BytesIO(profile(None if mode == "L" else SRGB, 1.0)))
    picture = Image.fromarray(scene).convert("L" if mode == "L" else "RGB")
    expected = np.asarray(picture.convert("RGB")).astype(int)
    levels = (np.linspace(0, 1, 256) ** 2.2 * 255).round().astype(np.uint8)
    stored = Image.fromarray(levels[np.asarray(picture)])
    if mode == "RGBA":
        stored.putalpha(255)
    stored.save(tmp_path / "linear.png", icc_profile=linear.tobytes())
    read = read_image(tmp_path / "linear.png").astype(int)
    assert np.abs(read - expected).mean() < 3 and np.abs(read - expected).max() < 14


SRGB = np.array(
    [[0.4360747, 0.3850649, 0.1430804], [0.2225045, 0.7168786, 0.0606169], [0.0139322, 0.0971045, 0.7141733]]
)
SPACES = {  # columns are what red, green and blue are in XYZ (D50); gamma, None for sRGB's own curve
    "ProPhoto": ([[0.7976749, 0.1351917, 0.0313534], [0.2880402, 0.7118741, 0.0000857], [0, 0, 0.82521]], 461 / 256),
    "Adobe RGB": (
        [[0.6097559, 0.2052401, 0.149224], [0.3111242, 0.625656, 0.0632197], [0.0194811, 0.0608902, 0.7448387]],
        563 / 256,
    ),
    "Display P3": (
        [[0.515102, 0.291965, 0.157153], [0.241182, 0.692236, 0.0665819], [-0.0010494, 0.0418818, 0.784378]],
        None,
    ),
}


def in_space(scene: np.ndarray, space: str) -> tuple[np.ndarray, bytes]:
    """The numbers of sRGB's colours in another space, whole steps of 255 not rounded; and its profile."""
    columns, gamma = SPACES[space]
    values = scene / 255
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    light = (light @ (np.linalg.inv(columns) @ SRGB).T).clip(0, 1)
    encoded = (
        light ** (1 / gamma)
        if gamma
        else np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    )
    return encoded * 255, profile(np.array(columns), gamma)


def profile(columns: np.ndarray | None, gamma: float | None) -> bytes:
    """A profile as ICC.1 has it, of colours, or of greys where there are no columns."""
    base = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    tags = {}
    for start in range(132, 132 + 12 * int.from_bytes(base[128:132], "big"), 12):
        place, size = (int.from_bytes(base[start + i : start + i + 4], "big") for i in (4, 8))
        tags[base[start : start + 4]] = base[place : place + size]
    if gamma:
        curve = b"curv\0\0\0\0\0\0\0\x01" + round(gamma * 256).to_bytes(2, "big") + b"\0\0"
    else:
        curve = tags[b"rTRC"]
    keep = {name: tags[name] for name in (b"desc", b"cprt", b"wtpt") if name in tags}
    for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), [] if columns is None else columns.T, strict=False):
        keep[name] = b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(value * 65536) for value in column))
    keep |= dict.fromkeys((b"kTRC",) if columns is None else (b"rTRC", b"gTRC", b"bTRC"), curve)
    head, table, body = bytearray(base[:128]), b"", b""
    place = 132 + 12 * len(keep)
    for name, data in keep.items():
        padded = data + b"\0" * (-len(data) % 4)
        table += name + (place + len(body)).to_bytes(4, "big") + len(data).to_bytes(4, "big")
        body += padded
    if columns is None:
        head[16:20] = b"GRAY"
    head[84:100] = bytes(16)
    head[0:4] = (place + len(body)).to_bytes(4, "big")
    return bytes(head) + len(keep).to_bytes(4, "big") + table + body


def add_profile(path, icc: bytes) -> None:
    """To a PNG, behind its header."""
    body = b"iCCP" + b"space\0\0" + zlib.compress(icc)
    data = path.read_bytes()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(data[:33] + chunk + data[33:])


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("form", ["png", "webp", "RGBA", "palette", "grey", "16 bits", "16 bits png", "float"])
def test_colours_are_those_of_the_reference(tmp_path, space, form):
    """Per pixel, over hues and brightnesses; deep files know strong colours as well, which 8 bits of ProPhoto miss."""
    y, x = np.mgrid[:64, :64] / 63
    hue = 2 * np.pi * x[..., None] + np.array([0, 2.1, 4.2])
    strength = 0 if form == "grey" else 0.4 if "bits" in form or form == "float" else 0.2
    scene = ((0.5 + strength * np.cos(hue)) * (30 + 200 * y[..., None])).round().astype(np.uint8)
    scene = scene[::4, ::4] if form == "palette" else scene
    values, icc = in_space(scene, space)
    stored = values.round().astype(np.uint8)
    path = tmp_path / {"webp": "scene.webp", "16 bits": "scene.tif", "float": "scene.tif"}.get(form, "scene.png")
    if path.suffix == ".tif":
        deep = (values * 257).round().astype(np.uint16) if form == "16 bits" else (values / 255).astype(np.float32)
        tifffile.imwrite(path, deep, photometric="rgb", iccprofile=icc)
    elif form == "palette":
        palette, indices = np.unique(stored.reshape(-1, 3), axis=0, return_inverse=True)
        picture = Image.fromarray(indices.reshape(scene.shape[:2]).astype(np.uint8))
        picture.putpalette(palette.tobytes())
        picture.save(path, icc_profile=icc)
    elif form == "16 bits png":
        cv2.imwrite(str(path), (values * 257).round().astype(np.uint16)[..., ::-1])
        add_profile(path, icc)
    else:
        picture = Image.fromarray(stored[..., 0] if form == "grey" else stored)
        if form == "RGBA":
            picture.putalpha(255)
        picture.save(path, icc_profile=icc, lossless=True)
    difference = np.abs(read_image(path).astype(int) - scene)
    assert difference.max() <= 3, difference.max()


@pytest.mark.parametrize("icc", [b"nonsense", b"\0" * 200, profile(None, 1.0)], ids=["text", "zeros", "grey"])
def test_profiles_that_are_broken_or_of_another_kind_are_ignored(tmp_path, scene, icc):
    Image.fromarray(scene).save(tmp_path / "scene.png", icc_profile=icc)
    assert np.array_equal(read_image(tmp_path / "scene.png"), scene)


@pytest.mark.parametrize("ending", ["heic", "avif"])
def test_what_phones_write(tmp_path, scene, ending):
    pillow_heif.register_heif_opener()
    Image.fromarray(np.rot90(scene)).save(tmp_path / f"phone.{ending}", quality=95, exif=exif_with(6))
    read = read_image(tmp_path / f"phone.{ending}")
    assert read.shape == scene.shape and np.abs(read.astype(int) - scene).mean() < 6


@pytest.mark.parametrize(
    "values, tolerance",
    [
        (lambda grey: (grey / 255).astype(np.float32), 1),
        (lambda grey: grey.astype(np.float32), 1),
        (lambda grey: grey.astype(np.float32) * 257, 1),
        (lambda grey: grey.astype(np.uint16) * 16, 1),  # twelve bits
        (lambda grey: grey.astype(np.uint16) * 257, 1),
        (lambda grey: grey.astype(np.int32) * 257, 1),
    ],
    ids=["float to 1", "float to 255", "float to 65535", "12 bits in 16", "16 bits", "16 bits in 32"],
)
def test_deep_pictures_are_scaled_by_their_range(tmp_path, values, tolerance):
    grey = np.tile(np.arange(256, dtype=np.uint8), (8, 1))
    Image.fromarray(values(grey)).save(tmp_path / "deep.tif")
    assert np.abs(read_image(tmp_path / "deep.tif")[..., 0].astype(int) - grey).max() <= tolerance


@pytest.mark.parametrize("kind", ["float", "twelve bits"])
def test_deep_colours(tmp_path, scene, kind):
    values = scene[..., ::-1]
    cv2.imwrite(
        str(tmp_path / "deep.tif"), (values / np.float32(255)) if kind == "float" else values.astype(np.uint16) * 16
    )
    expected = scene if kind == "float" else (scene * (16 * 255 / 4095)).round()
    assert np.abs(read_image(tmp_path / "deep.tif").astype(int) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["png", "tif", "premultiplied"])
def test_deep_pictures_with_transparency_lie_on_white(tmp_path, scene, kind):
    alpha = np.linspace(0, 255, scene.shape[1]).round().astype(np.uint8)[None, :, None].repeat(len(scene), 0)
    share = alpha / 255
    deep = np.concatenate([scene, alpha], 2).astype(np.uint16) * 257
    if kind == "premultiplied":
        deep[..., :3] = (deep[..., :3] * share).round()
    path = tmp_path / "deep"
    if kind == "png":
        cv2.imwrite(f"{path}.png", cv2.cvtColor(deep, cv2.COLOR_RGBA2BGRA))
        path = path.with_suffix(".png")
    else:
        tifffile.imwrite(path, deep, photometric="rgb", extrasamples=["assocalpha" if kind != "tif" else "unassalpha"])
    expected = (scene * share + 255 * (1 - share)).round()
    assert np.abs(read_image(path).astype(int) - expected).max() <= (2 if kind == "premultiplied" else 1)


@pytest.mark.parametrize("size", [(1, 300), (300, 1), (1, 1)])
@pytest.mark.parametrize("ending", ["png", "jpg", "tif", "webp"])
def test_pictures_a_pixel_wide_are_read(tmp_path, size, ending):
    Image.new("RGB", size, "red").save(tmp_path / f"thin.{ending}")
    assert read_image(tmp_path / f"thin.{ending}").shape == (*size[::-1], 3)


def test_programs_and_lists_are_no_pictures(tmp_path):
    (tmp_path / "script.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    with pytest.raises(UserError, match="not a picture"):
        read_image(tmp_path / "script.eps")


def test_sizes_are_limited_before_decoding(tmp_path):
    Image.new("1", (20_000, 20_000)).save(tmp_path / "huge.png")
    with pytest.raises(UserError, match="too large"):
        read_image(tmp_path / "huge.png")
    Image.new("1", (300, 10)).save(tmp_path / "wide.png")
    with pytest.raises(UserError, match="300 x 10 pixels; up to 200 x 200"):
        read_image(tmp_path / "wide.png", largest_side=200)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_deep_pictures_are_limited_before_decoding(tmp_path, monkeypatch, ending):
    """Zeros shrink to nothing; as floats in a wide space they would fill the memory."""
    path = tmp_path / f"deep.{ending}"
    cv2.imwrite(str(path), np.zeros((40, 60, 3), np.uint16))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UserError, match="60 x 40 pixels; up to 50 x 50"):
        read_image(path, largest_side=50)
    monkeypatch.setattr("eat_hf.media.pictures.LARGEST_DEEP_PICTURE", 2000)
    with pytest.raises(UserError, match="too large"):
        read_image(path)


def test_deep_greys_are_limited_before_decoding(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "deep.tif", np.zeros((40, 60), np.float32))
    monkeypatch.setattr("eat_hf.media.pictures.LARGEST_DEEP_PICTURE", 2000)
    with pytest.raises(UserError, match="too large"):
        read_image(tmp_path / "deep.tif")


@pytest.mark.parametrize("ending, options", [("tif", {"compression": "tiff_lzw"}), ("avif", {}), ("jpg", {})])
def test_libraries_write_nothing_themselves_about_damage(tmp_path, ending, options):
    """In a process of its own, for a library writes past Python."""
    file = io.BytesIO()
    Image.effect_noise((64, 64), 90).convert("RGB").save(
        file, {"tif": "TIFF", "avif": "AVIF", "jpg": "JPEG"}[ending], **options
    )
    (tmp_path / f"damaged.{ending}").write_bytes(scratched(file.getvalue(), 1 / 3))
    program = (
        "import sys; from eat_hf.media.pictures import read_image; from eat_hf.errors import UserError\n"
        "try: read_image(sys.argv[1])\nexcept UserError: pass"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / f"damaged.{ending}")], capture_output=True, text=True, check=True
    )
    assert run.stderr == "" and run.stdout == ""
