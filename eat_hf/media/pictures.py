"""Pictures: read from files, and made small for pages."""

import contextlib
import ctypes
import functools
import io
import itertools
import os
import struct
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin, UnidentifiedImageError

from ..errors import UserError
from .files import existing_file, one_line

# What is opened (and MPO, which is found as JPEG); others that Pillow knows run programs (EPS) or name other files
FORMATS = "JPEG PNG WEBP AVIF HEIF TIFF BMP DIB GIF JPEG2000 PPM TGA ICO ICNS PCX SGI PSD".split()
LARGEST_PICTURE = 89_478_485  # pixels, Pillow's own limit
LARGEST_DEEP_PICTURE = 50_000_000  # pixels of 16 bits or floats, of which many times as many bytes are worked with
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
RGB, PREMULTIPLIED, ALPHA = 2, 1, 2  # of TIFF: what its colours are, and what is beside them
DEPTHS = (8, 10, 12, 14, 16, 20, 24, 32)  # bits of integer pictures


def frame_strip(frames: np.ndarray, columns: int = 6, side: int = 128, quality: int = 80) -> bytes:
    """Evenly spaced frames of (T, H, W, 3) uint8, each `side` pixels high, side by side as a JPEG."""
    chosen = np.linspace(0, len(frames) - 1, columns).round().astype(int)
    width = max(1, round(side * frames.shape[2] / frames.shape[1]))
    tiles = [Image.fromarray(frames[i]).resize((width, side), Image.Resampling.LANCZOS) for i in chosen]
    strip = Image.fromarray(np.hstack([np.asarray(tile) for tile in tiles]))
    data = io.BytesIO()
    strip.save(data, "JPEG", quality=quality, optimize=True)
    return data.getvalue()


def read_image(image: str | os.PathLike | Image.Image | np.ndarray, largest_side: int | None = None) -> np.ndarray:
    """A picture as the viewer sees it: (H, W, 3) uint8 RGB.

    A file's EXIF orientation is applied, whatever else its metadata says; colours come from its profile to sRGB;
    transparency is laid on white; 16-bit and float pictures are scaled by their range; palettes are resolved.

    Args:
        image: path, PIL picture, or uint8 array (H, W), (H, W, 3) or (H, W, 4).
        largest_side: of a file, pixels; larger ones are refused before they are decoded.

    Raises:
        UserError: the file is missing, not a picture, or too large, or the array is of another kind.
    """
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))):
            raise UserError(
                f"An image array must be uint8 of shape (height, width, 3), not {image.dtype} of shape {image.shape}."
            )
        if image.size == 0:
            raise UserError(f"The image array is empty (shape {image.shape}).")
        return _flatten_picture(Image.fromarray(image))
    if isinstance(image, Image.Image):
        return _flatten_picture(_stand_upright(image))
    path = existing_file(image, "picture")
    _prepare_libraries()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Pillow says about metadata is nothing to the user
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with _open(path, largest_side) as picture:
                picture.load()
                return _flatten_picture(_stand_upright(picture))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"The picture {path} is too large; scale it down to a few thousand pixels.") from error
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not a picture that can be read; give a JPEG, PNG, WebP or HEIC.") from error
    except MemoryError as error:
        raise UserError(f"The picture {path} needs more memory than there is; scale it down.") from error
    except Exception as error:  # decoders raise errors of many kinds on damaged data
        raise UserError(f"The picture {path} cannot be read ({one_line(error)}); is the file damaged?") from error


@functools.cache
def _prepare_libraries() -> None:
    """Teach Pillow HEIC, and keep libraries from writing to stderr themselves."""
    import pillow_heif
    from PIL import _imaging

    pillow_heif.register_heif_opener(thumbnails=False)
    # libtiff's messages have no other switch; where it is linked into Pillow without its names, they stay
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL(_imaging.__file__)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            function = getattr(library, name)
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_void_p
            function(None)
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _open(path: Path, largest_side: int | None) -> Image.Image:
    """A picture that is small enough to be decoded, or decoded already.

    Raises:
        UserError: it has too many pixels.
    """

    def check(width: int, height: int, pixels: int) -> None:
        if largest_side is not None and max(width, height) > largest_side:
            raise UserError(
                f"The picture {path.name} has {width} x {height} pixels; up to {largest_side} x {largest_side} "
                "are allowed here. Scale it down."
            )
        if width * height > pixels:
            raise Image.DecompressionBombError

    for opener in (_open_deep_tiff, _open_deep_png):
        try:
            if (deep := opener(path, functools.partial(check, pixels=LARGEST_DEEP_PICTURE))) is not None:
                return deep
        except (UserError, Image.DecompressionBombError, Image.DecompressionBombWarning, MemoryError):
            raise
        except Exception:  # whatever is wrong with it, Pillow tells
            continue
    picture = Image.open(path, formats=FORMATS)
    many = picture.mode == "F" or picture.mode.startswith("I")
    try:
        check(*picture.size, LARGEST_DEEP_PICTURE if many else LARGEST_PICTURE)
    except BaseException:
        picture.close()
        raise
    return picture


def _open_deep_png(path: os.PathLike, check: Callable[[int, int], None]) -> Image.Image | None:
    """A PNG of 16-bit colours, with transparency or without, which Pillow cuts to 8; None for others.

    Args:
        check: raises if so many pixels a row and rows are too many; called before they are decoded.
    """
    with open(path, "rb") as file:
        head = file.read(26)
        if head[:8] != b"\x89PNG\r\n\x1a\n" or head[24:] not in (b"\x10\x02", b"\x10\x06"):
            return None
        with Image.open(path, formats=["PNG"]) as stated:
            info = stated.info
            if "transparency" in info:
                return None
            check(*stated.size)
        file.seek(0)
        values = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    values = values / np.float32(257)
    picture = _with_alpha(_deep_to_srgb(values[..., 2::-1], info.pop("icc_profile", None)), values[..., 3:])
    picture.info = info
    return picture


def _open_deep_tiff(path: os.PathLike, check: Callable[[int, int], None]) -> Image.Image | None:
    """A TIFF of several float or 16-bit channels, which OpenCV reads and Pillow does not, or cuts; None for others.

    Args:
        check: as of `_open_deep_png`.
    """
    with open(path, "rb") as file:
        head = file.read(8)
        if head[:4] not in (b"II*\0", b"MM\0*"):
            return None
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        file.seek(tags.next)
        tags.load(file)
        depths = tags.get(TiffImagePlugin.BITSPERSAMPLE, (1,))
        if set(depths) > {16, 32} or min(depths) < 16 or len(depths) not in (3, 4):
            return None
        if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) != RGB:  # of inks, say
            return None
        check(tags[TiffImagePlugin.IMAGEWIDTH], tags[TiffImagePlugin.IMAGELENGTH])
        file.seek(0)
        values = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    colours, alpha, beside = _to_range(values[..., 2::-1]), values[..., 3:], tags.get(TiffImagePlugin.EXTRASAMPLES, ())
    if not set(beside) & {PREMULTIPLIED, ALPHA}:
        alpha = alpha[..., :0]
    alpha = _to_range(alpha) if alpha.size else alpha
    if PREMULTIPLIED in beside:
        colours = (colours * (255 / alpha.clip(1, 255))).clip(0, 255)
    picture = _with_alpha(_deep_to_srgb(colours, tags.get(TiffImagePlugin.ICCPROFILE)), alpha)
    turn = UPRIGHT.get(tags.get(ORIENTATION) or 1)
    return picture if turn is None else picture.transpose(turn)


def _with_alpha(picture: Image.Image, alpha: np.ndarray) -> Image.Image:
    """An RGB picture with opacities (H, W, 1) in 0 to 255; (H, W, 0) where there are none."""
    if alpha.shape[2]:
        picture.putalpha(Image.fromarray(alpha[..., 0].round().astype(np.uint8)))
    return picture


def _deep_to_srgb(values: np.ndarray, profile: object) -> Image.Image:
    """RGB of (H, W, 3) in 0 to 255 with fractions, which count: a step of a wide space is many of a dark sRGB colour.

    LittleCMS is asked, by Pillow, about the whole steps around each colour.
    """
    picture = np.empty(values.shape, np.uint8)
    rows = max(1, 2**20 // values.shape[1])
    for start in range(0, len(values), rows):
        part = values[start : start + rows]
        low = np.floor(part).clip(0, 254)
        found = np.zeros_like(part)
        for corner in itertools.product((0, 1), repeat=3) if profile else ():
            share = np.where(corner, part - low, 1 - (part - low)).prod(-1, keepdims=True)
            found += share * np.asarray(_to_srgb(Image.fromarray((low + corner).astype(np.uint8)), profile))
        picture[start : start + rows] = (found if profile else part).round()
    return Image.fromarray(picture)


def _stand_upright(picture: Image.Image) -> Image.Image:
    turn = UPRIGHT.get(_orientation(picture))
    if turn is None:
        return picture
    upright = picture.transpose(turn)
    upright.info = dict(picture.info)
    return upright


def _orientation(picture: Image.Image) -> int:
    """1 to 8 as EXIF has it; 1 where nothing can be read."""
    try:
        value = picture.getexif().get(ORIENTATION)
    except Exception:  # of many kinds: another tag is broken
        value = None
    if value not in UPRIGHT:
        value = _stored_orientation(picture.info.get("exif", b""))
    return value if value in UPRIGHT else 1


def _stored_orientation(exif: object) -> int:
    """The same, by looking for nothing else in EXIF's bytes."""
    if not isinstance(exif, bytes):
        return 1
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    with contextlib.suppress(struct.error):
        (start,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(order + "HH", exif, entry)
            if tag == ORIENTATION:
                return struct.unpack_from(order + ("I" if kind == 4 else "H"), exif, entry + 8)[0]
    return 1


def _flatten_picture(picture: Image.Image) -> np.ndarray:
    profile = picture.info.get("icc_profile")
    if picture.mode.startswith("I") or picture.mode == "F":
        picture = Image.fromarray(_to_range(np.asarray(picture)).round().astype(np.uint8))
    alpha = None
    if picture.mode == "P" or "A" in picture.getbands() or "a" in picture.getbands() or "transparency" in picture.info:
        grey = picture.mode in ("LA", "La")
        if picture.mode == "La":
            picture = picture.convert("LA")
        elif picture.mode == "RGBa":
            picture = picture.convert("RGBA")
        has_alpha = picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info
        picture = picture.convert("RGBA")
        alpha = picture.getchannel("A") if has_alpha else None
        picture = picture.convert("RGB")
        if grey:
            picture = picture.getchannel("R")
    picture = _to_srgb(picture, profile)
    if alpha is not None:
        white = Image.new("RGB", picture.size, "white")
        picture = Image.composite(picture, white, alpha)
    return np.array(picture)


def _to_srgb(picture: Image.Image, profile: object) -> Image.Image:
    """RGB; a profile that is broken, or of another kind of picture, is ignored."""
    if picture.mode not in ("L", "RGB", "CMYK", "LAB"):
        picture, profile = picture.convert("RGB"), profile if picture.mode in ("RGBX", "1") else None
    try:
        if isinstance(profile, bytes) and profile:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            if picture.mode == "L" and source.profile.xcolor_space == "RGB ":  # greys of a colour space
                picture = picture.convert("RGB")
        elif picture.mode == "LAB":
            source = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        else:
            return picture.convert("RGB")
        converted = ImageCms.profileToProfile(
            picture,
            source,
            ImageCms.createProfile("sRGB"),
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            outputMode="RGB",
            flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
    except Exception:  # LittleCMS and Pillow raise errors of many kinds about profiles
        converted = None
    return picture.convert("RGB") if converted is None else converted


def _to_range(values: np.ndarray) -> np.ndarray:
    """Brightness of any type from 0 to 255, with fractions, scaled by its range: 0 to 1, 8 bits, 12 bits in 16, ..."""
    if values.dtype == np.uint8 or values.dtype == bool:
        return values * np.float64(255 if values.dtype == bool else 1)
    whole = values.dtype.kind in "iu"
    values = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = values.min(initial=0), values.max(initial=0)
    if whole:
        highest = next((2**bits - 1 for bits in DEPTHS if high < 2**bits), high)
    elif low < -0.01:  # as far below as it goes
        values, highest = values - low, high - low
    elif np.quantile(values, 0.99) <= 1.5:  # 0 to 1, with highlights above
        highest = 1.0
    else:
        highest = next((each for each in (255.0, 65535.0) if high <= each), high)
    return (values * (255 / max(highest, 1e-12))).clip(0, 255)
