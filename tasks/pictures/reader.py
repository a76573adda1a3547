"""Opens untrusted pictures. The content decides what a file is, not its name or its declared type.

The number of pixels is checked when only the header is read: a file of a few kilobytes can unpack
to gigabytes. Pillow reports a damaged file with a dozen different errors; here they all become
ImageError. An error of the disk stays an OSError, since only that is worth another try. Only the
kinds below are opened: Pillow's others run external programs (EPS) or are rarely tested against
attacks.
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
# Pillow's own guard, which also covers the frames and tiles inside a file.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

# The errors of Pillow's readers for damaged bytes. Not Exception: a time limit must pass through.
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
    """The picture in `file`, identified and measured but not decoded. Decode it inside
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
    """Within the block, Pillow's errors become ImageError. Errors of the disk, of memory and of
    time limits pass.
    """
    try:
        yield
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError(f"the image unpacks to too many pixels: {error}") from error
    except OSError as error:
        if error.errno is not None:  # the system's error; Pillow's own have only a text
            raise
        raise ImageError(f"the image is damaged or cut short: {error}") from error
    except _DAMAGED as error:
        raise ImageError(
            f"the image is damaged or cut short: {error or type(error).__name__}"
        ) from error
