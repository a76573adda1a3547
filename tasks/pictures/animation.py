"""Resizes animations. Their versions stay animated: users report a thumbnail that stands still as a
bug.

Every frame is decoded and encoded, so there are limits: all frames together may have as many pixels
as one large picture, and there may be MAX_FRAMES of them. Beyond that the version is the first
frame, and notes how many there were. The pages of a TIFF and the second picture of an MPO are no
animation: the version is made of the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PIL import Image

from tasks.pictures import colour
from tasks.pictures.reader import as_image_errors
from tasks.pictures.resizer import Resizer

ANIMATED_KINDS = {"GIF", "WEBP", "PNG", "AVIF"}
MAX_FRAMES = 1000


@dataclass(frozen=True)
class Frame:
    """One picture of an animation, and for how many milliseconds it is shown."""

    image: Image.Image
    duration: int


def frame_count(image: Image.Image) -> int:
    """The frames of an animation; 1 for a still picture."""
    with as_image_errors():
        return (
            image.n_frames
            if image.format in ANIMATED_KINDS and getattr(image, "is_animated", False)
            else 1
        )


def is_affordable(image: Image.Image, max_pixels: int) -> bool:
    frames = frame_count(image)
    return frames <= MAX_FRAMES and frames * image.width * image.height <= max_pixels


def resize_frames(image: Image.Image, edges: list[int]) -> dict[int, list[Frame]]:
    """Every frame at every edge (largest first), in one pass over the file. Only the resized frames
    are kept in memory.
    """
    made: dict[int, list[Frame]] = {edge: [] for edge in edges}
    for number in range(_first(image), frame_count(image)):
        whole = _frame(image, number)
        resizer = Resizer(whole.image, edges[0])
        for edge in edges:
            made[edge].append(Frame(colour.unpremultiply(resizer.at(edge)), whole.duration))
    return made


def _frame(image: Image.Image, number: int) -> Frame:
    with as_image_errors():
        image.seek(number)
        image.load()  # before the duration is read: WebP and AVIF know it only then
        # A copy: the next `seek` paints over this frame. The first frame may have a palette, later
        # ones are RGB.
        mode = "RGBA" if image.has_transparency_data else "RGB"
        return Frame(image.convert(mode), round(image.info.get("duration", 0)))


def _first(image: Image.Image) -> int:
    """1 for an animated PNG whose first picture is for programs that can't show animations, else
    0.
    """
    return 1 if getattr(image, "default_image", False) else 0


def loop_options(image: Image.Image) -> dict[str, Any]:
    """How often the animation repeats (0: for ever), if the file says so. A GIF without it plays
    once.
    """
    return {"loop": image.info["loop"]} if "loop" in image.info else {}
