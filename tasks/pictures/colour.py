"""Converts the colours of a picture: before resizing to a mode that can be resized well, after it
to sRGB.

The modes for resizing are L, La, RGB and RGBa (CMYK is converted when it is small). The small `a`
stands for premultiplied alpha: without it the invisible colour of transparent pixels blends into
their neighbours, and thumbnails get dark fringes.

A colour profile is applied and dropped: without that most programs would show an Adobe RGB or
Display P3 picture pale, and a profile can be larger than its thumbnail.
"""

from __future__ import annotations

import io
import math

from PIL import Image, ImageCms

from tasks.pictures.errors import ImageError

_SRGB = ImageCms.createProfile("sRGB")
_SIXTEEN_TO_EIGHT = [value >> 8 for value in range(65536)]
_WHITE = {"I": (255, 65535), "F": (1, 255)}
_PREMULTIPLIED = {"LA": "La", "RGBA": "RGBa"}
_STRAIGHT = {"La": "LA", "RGBa": "RGBA"}


def to_resizable(image: Image.Image) -> Image.Image:
    """`image` in a mode that can be resized well."""
    if image.mode in {"I", "F"} or image.mode.startswith("I;"):
        image = _to_eight_bits(image)
        image.info.pop("transparency", None)  # names a value of 16 bits, which is gone now
    if image.mode in {"L", "RGB", "CMYK", "La", "RGBa"} and "transparency" not in image.info:
        return image
    return premultiply(image.convert(_plain_mode(image)))


def premultiply(image: Image.Image) -> Image.Image:
    return image.convert(_PREMULTIPLIED[image.mode]) if image.mode in _PREMULTIPLIED else image


def unpremultiply(image: Image.Image) -> Image.Image:
    """The opposite of `premultiply`. Every file format needs it."""
    if image.mode == "La":  # Pillow can't convert this one into anything but LA
        return image.convert("LA")
    return image.convert(_STRAIGHT[image.mode]) if image.mode in _STRAIGHT else image


def to_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """`image` in sRGB or grey. A profile that is broken, or belongs to another mode, is ignored."""
    if profile:
        image = _apply_profile(image, profile)
    return image.convert("RGB") if image.mode == "CMYK" else image


def _plain_mode(image: Image.Image) -> str:
    grey = image.mode in {"1", "L", "LA"}
    if image.has_transparency_data:
        return "LA" if grey else "RGBA"
    return "L" if grey else "RGB"


def _apply_profile(image: Image.Image, profile: bytes) -> Image.Image:
    kept = unpremultiply(image)
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(source):
            return image
        mode = {"LA": "L", "CMYK": "RGB"}.get(kept.mode, kept.mode)
        return _to_srgb(kept, source, mode)
    except (ImageCms.PyCMSError, OSError, ValueError):
        return image


def _to_srgb(image: Image.Image, source: ImageCms.ImageCmsProfile, mode: str) -> Image.Image:
    """Apply a profile. Grey goes through RGB, as there is no grey sRGB. LA stays as it is: lcms
    takes no grey with alpha.
    """
    if image.mode == "LA":
        return premultiply(image)
    target = "RGB" if mode == "L" else mode
    done = ImageCms.profileToProfile(image, source, _SRGB, outputMode=target)
    done.info = {}  # without the profile of sRGB: it is the default
    return premultiply(done.convert(mode))


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Convert grey of 16 bits (scans, x-rays), 32 bits or floats. Pillow's own conversion cuts
    values off at 255, which gives a white picture.
    """
    if image.mode.startswith("I;"):
        return image.convert("I").point(_SIXTEEN_TO_EIGHT, "L")
    low, high = _range(image)
    scale = 255 / (high - low)
    return image.convert("F").point(lambda value: value * scale - low * scale).convert("L")


def _range(image: Image.Image) -> tuple[float, float]:
    """The values of black and white: the smallest usual range with all values of the image, or the
    range of its values.
    """
    low, high = image.getextrema()
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ImageError(f"expected finite grey values, got {low} to {high}")
    for white in _WHITE[image.mode]:
        if low >= 0 and high <= white:
            return 0, white
    return low, max(high, low + 1)
