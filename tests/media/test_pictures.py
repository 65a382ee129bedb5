"""Pictures as phones, cameras and microscopes write them."""

import io
import subprocess
import sys

import cv2
import numpy as np
import pillow_heif
import pytest
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
    linear = ImageCms.ImageCmsProfile(io.BytesIO(linear_profile(grey=mode == "L")))
    picture = Image.fromarray(scene).convert("L" if mode == "L" else "RGB")
    expected = np.asarray(picture.convert("RGB")).astype(int)
    levels = (np.linspace(0, 1, 256) ** 2.2 * 255).round().astype(np.uint8)
    stored = Image.fromarray(levels[np.asarray(picture)])
    if mode == "RGBA":
        stored.putalpha(255)
    stored.save(tmp_path / "linear.png", icc_profile=linear.tobytes())
    read = read_image(tmp_path / "linear.png").astype(int)
    assert np.abs(read - expected).mean() < 3 and np.abs(read - expected).max() < 14


def linear_profile(grey: bool) -> bytes:
    """sRGB's primaries with a straight curve, written out as ICC.1 has it."""
    base = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    curve = b"curv\0\0\0\0\0\0\0\x01\x01\0\0\0"  # gamma 1.0 as u8Fixed8
    tags = {}
    for start in range(132, 132 + 12 * int.from_bytes(base[128:132], "big"), 12):
        place, size = (int.from_bytes(base[start + i : start + i + 4], "big") for i in (4, 8))
        tags[base[start : start + 4]] = base[place : place + size]
    names = (b"kTRC",) if grey else (b"rTRC", b"gTRC", b"bTRC")
    keep = {name: tags[name] for name in (b"desc", b"cprt", b"wtpt") if name in tags}
    if not grey:
        keep |= {name: tags[name] for name in (b"rXYZ", b"gXYZ", b"bXYZ")}
    keep |= dict.fromkeys(names, curve)
    head, table, body = bytearray(base[:128]), b"", b""
    place = 132 + 12 * len(keep)
    for name, data in keep.items():
        padded = data + b"\0" * (-len(data) % 4)
        table += name + (place + len(body)).to_bytes(4, "big") + len(data).to_bytes(4, "big")
        body += padded
    if grey:
        head[16:20] = b"GRAY"
    head[84:100] = bytes(16)
    head[0:4] = (place + len(body)).to_bytes(4, "big")
    return bytes(head) + len(keep).to_bytes(4, "big") + table + body


@pytest.mark.parametrize(
    "profile", [b"nonsense", b"\0" * 200, linear_profile(grey=True)], ids=["text", "zeros", "grey"]
)
def test_profiles_that_are_broken_or_of_another_kind_are_ignored(tmp_path, scene, profile):
    Image.fromarray(scene).save(tmp_path / "scene.png", icc_profile=profile)
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
