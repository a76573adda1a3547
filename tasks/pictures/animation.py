"""Animations. They stay animated: a moving picture whose thumbnail stands still is what people
report as a bug.

Bounded, because every frame must be decoded and encoded: all frames together may have as many
pixels as one large picture may, and there may be MAX_FRAMES of them. Past that the first frame
stands for the whole, and the version says how many there were. Pages of a TIFF and the second
picture of an MPO are no animation: the first one is taken.
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
    """Frames of an animation; 1 for what stands still."""
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
    """Every frame at every edge (largest first), in one pass over the file; only the small ones are
    kept in memory.
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
        # A copy of its own, for the next `seek` paints over this one; a palette first, RGB
        # afterwards.
        mode = "RGBA" if image.has_transparency_data else "RGB"
        return Frame(image.convert(mode), round(image.info.get("duration", 0)))


def _first(image: Image.Image) -> int:
    """1 for an animated PNG whose first picture is only for programs that can't show the animation."""
    return 1 if getattr(image, "default_image", False) else 0


def loop_options(image: Image.Image) -> dict[str, Any]:
    """How often it repeats, where the file says (0 is for ever); a GIF that says nothing plays
    once.
    """
    return {"loop": image.info["loop"]} if "loop" in image.info else {}
