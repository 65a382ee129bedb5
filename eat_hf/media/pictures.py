"""Pictures: read from files, and made small for pages."""

import io
import os
import warnings

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import UserError
from .files import existing_file, one_line


def frame_strip(frames: np.ndarray, columns: int = 6, side: int = 128, quality: int = 80) -> bytes:
    """Evenly spaced frames of (T, H, W, 3) uint8, each `side` pixels high, side by side as a JPEG."""
    chosen = np.linspace(0, len(frames) - 1, columns).round().astype(int)
    width = max(1, round(side * frames.shape[2] / frames.shape[1]))
    tiles = [Image.fromarray(frames[i]).resize((width, side), Image.Resampling.LANCZOS) for i in chosen]
    strip = Image.fromarray(np.hstack([np.asarray(tile) for tile in tiles]))
    data = io.BytesIO()
    strip.save(data, "JPEG", quality=quality, optimize=True)
    return data.getvalue()


def read_image(image: str | os.PathLike | Image.Image | np.ndarray) -> np.ndarray:
    """A picture as the viewer sees it: (H, W, 3) uint8 RGB.

    A file's EXIF orientation is applied, transparency is laid on white, 16-bit and palette pictures are converted.

    Args:
        image: path, PIL picture, or uint8 array (H, W), (H, W, 3) or (H, W, 4).

    Raises:
        UserError: the file is missing or not a picture, or the array is of another kind.
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
        return _flatten_picture(ImageOps.exif_transpose(image))
    path = existing_file(image, "picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                return _flatten_picture(ImageOps.exif_transpose(picture))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise UserError(f"The picture {path} is too large; scale it down to a few thousand pixels.") from error
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is not a picture that can be read; give a JPEG, PNG or WebP file.") from error
    except (OSError, SyntaxError, ValueError) as error:  # what Pillow's decoders raise on damaged data
        raise UserError(f"The picture {path} cannot be read ({one_line(error)}); is the file damaged?") from error


def _flatten_picture(picture: Image.Image) -> np.ndarray:
    if picture.mode.startswith("I") or picture.mode == "F":
        values = np.asarray(picture, dtype=np.float64)
        if values.max(initial=0) > 255:
            values = values / 257  # 16 bits to 8
        return np.repeat(values.round().clip(0, 255).astype(np.uint8)[..., None], 3, 2)
    if "A" in picture.getbands() or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))
