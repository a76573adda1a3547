"""Encodes a version: the kind of its file, the quality, and nothing but pixels.

A version keeps the kind of its original. Exceptions are TIFF, which browsers don't show, and BMP,
which isn't compressed: they become JPEG, or PNG if something is transparent. The quality is 85
where the kind has one. Metadata was dropped when the picture was decoded.
"""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from tasks.pictures import colour
from tasks.pictures.animation import Frame

QUALITY = 85
SUFFIX = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "GIF": ".gif", "AVIF": ".avif"}
_OPTIONS: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": QUALITY, "optimize": True},
    # Level 4: 140 ms instead of 370 for the large size of a photograph, and 5 % more bytes.
    "PNG": {"compress_level": 4},
    "WEBP": {"quality": QUALITY},
    "GIF": {},
    "AVIF": {"quality": QUALITY},
}
_OPAQUE_FROM = 128  # in a GIF a pixel is opaque or transparent, nothing between
_NOTHING = 255


def kind_for(original: str, image: Image.Image) -> str:
    """The kind of file for a version of `image`, whose original has the kind `original`."""
    if original in {"TIFF", "BMP"}:
        return "PNG" if _is_transparent(colour.unpremultiply(image)) else "JPEG"
    return "JPEG" if original == "MPO" else original


def options_of(kind: str) -> dict[str, Any]:
    """How a version of this kind is written, for its row."""
    return {"format": kind} | ({"quality": QUALITY} if "quality" in _OPTIONS[kind] else {})


def encode(image: Image.Image, kind: str) -> bytes:
    out = io.BytesIO()
    _in_mode_for(kind, image).save(out, kind, **_OPTIONS[kind])
    return out.getvalue()


def encode_animation(frames: list[Frame], kind: str, loop: dict[str, Any]) -> bytes:
    """All frames in one file of the same kind, each shown as long as before."""
    hides = any(_is_transparent(frame.image) for frame in frames)
    first, *others = [_in_common_mode(frame.image, kind, hides) for frame in frames]
    # Clear a transparent frame before the next one is shown, or it shines through.
    disposal = {"disposal": 2} if kind == "GIF" and hides else {}
    out = io.BytesIO()
    first.save(
        out,
        kind,
        save_all=True,
        append_images=others,
        duration=[frame.duration for frame in frames],
        **_OPTIONS[kind],
        **loop,
        **disposal,
    )
    return out.getvalue()


def _in_common_mode(image: Image.Image, kind: str, hides: bool) -> Image.Image:
    """A frame in the mode of all frames. An alpha channel that hides nothing would cost a third
    more to write.
    """
    image = _in_mode(image, "RGBA" if hides else "RGB")
    return _palette(image) if kind == "GIF" else image


def _in_mode_for(kind: str, image: Image.Image) -> Image.Image:
    image = colour.unpremultiply(image)
    if kind == "GIF":
        return _palette(image)
    if kind == "JPEG" and image.mode in {"LA", "RGBA"}:
        return image.convert(image.mode[:-1])
    return image


def _palette(image: Image.Image) -> Image.Image:
    """The image with at most 255 colours. The 256th means transparent (or, in an animation, "as in
    the frame before").
    """
    if image.mode == "L":
        return image
    colours = _in_mode(image, "RGB").quantize(_NOTHING, Image.Quantize.MEDIANCUT)
    if _is_transparent(image):
        hidden = image.getchannel("A").point(lambda alpha: 255 * (alpha < _OPAQUE_FROM))
        colours.paste(_NOTHING, mask=hidden)
        colours.info["transparency"] = _NOTHING
    return colours


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    # `convert` copies the image, also if the mode is the same.
    return image if image.mode == mode else image.convert(mode)


def _is_transparent(image: Image.Image) -> bool:
    opaque = 255
    return image.mode in {"LA", "RGBA"} and image.getchannel("A").getextrema()[0] < opaque
