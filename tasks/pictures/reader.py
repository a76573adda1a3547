"""Opening a picture somebody else made: what it is goes by its content, whatever its name or its
sender says.

The number of pixels is checked while only the header has been read, because a file of a few
kilobytes can unpack to gigabytes. Pillow tells of a damaged file in a dozen ways; here they become
one: ImageError. An error of the disk keeps being an OSError, since it alone is worth another try.
Only the kinds below are tried: Pillow's others run foreign programs (EPS) or are read by code that
few have ever attacked.
"""

from __future__ import annotations

import contextlib
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from PIL import Image, UnidentifiedImageError

from tasks.pictures.errors import ImageError, NotAnImageError

KINDS = ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF")

# The largest cameras make pictures of 100 megapixels; one of 120 takes 0.5 GB once decoded as RGBA.
MAX_PIXELS = 120_000_000
Image.MAX_IMAGE_PIXELS = (
    MAX_PIXELS  # Pillow's own guard, which also covers the frames and tiles inside a file
)

# What Pillow's readers raise on bytes that make no sense; not Exception, so that a time limit
# passes through.
_DAMAGED = (
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    RuntimeError,
    struct.error,
    zlib.error,
)


@contextlib.contextmanager
def open_image(file: BinaryIO, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """The picture in `file`, identified and measured, not decoded yet: decode it inside
    `as_image_errors`.
    """
    with as_image_errors():
        image = _identify(file)
    with image:
        _check_pixels(image, max_pixels)
        yield image


def _identify(file: BinaryIO) -> Image.Image:
    if not file.read(1):
        raise NotAnImageError("the file is empty")
    file.seek(0)
    try:
        return Image.open(file, formats=KINDS)
    except UnidentifiedImageError as error:
        raise NotAnImageError(
            f"the file is not an image of a kind we process ({', '.join(KINDS)})"
        ) from error


def _check_pixels(image: Image.Image, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        raise ImageError(
            f"expected at most {max_pixels:,} pixels, got {width} x {height} = {width * height:,}"
        )


@contextlib.contextmanager
def as_image_errors() -> Iterator[None]:
    """Pillow's many errors as one; those of the disk, of memory and of time limits as they are."""
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"the image unpacks to too many pixels: {error}") from error
    except OSError as error:
        if error.errno is not None:  # the system's, not Pillow's, which carry a text only
            raise
        raise ImageError(f"the image is damaged or cut short: {error}") from error
    except _DAMAGED as error:
        raise ImageError(
            f"the image is damaged or cut short: {error or type(error).__name__}"
        ) from error
