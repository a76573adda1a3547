"""Makes all versions of a picture, one by one, the largest first: each can be stored before the
next is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from PIL import Image

from tasks.pictures import animation, encoder
from tasks.pictures.reader import MAX_PIXELS, open_image
from tasks.pictures.resizer import Resizer


@dataclass(frozen=True)
class Version:
    """One size of a picture, ready to be written."""

    name: str
    width: int
    height: int
    data: bytes
    suffix: str
    options: dict[str, Any]


def make_versions(
    file: BinaryIO, sizes: Mapping[str, int], max_pixels: int = MAX_PIXELS
) -> Iterator[Version]:
    """The picture in `file` at each of `sizes` (from `validate_sizes`: largest first).

    Raises NotAnImageError for a file that is no picture of a known kind, ImageError for a picture
    that is too large or damaged, OSError when the file can't be read.
    """
    with open_image(file, max_pixels) as image:
        frames = animation.frame_count(image)
        if frames > 1 and animation.is_affordable(image, max_pixels):
            yield from _animated(image, sizes)
        else:
            yield from _still(image, sizes, frames)


def _still(image: Image.Image, sizes: Mapping[str, int], frames: int) -> Iterator[Version]:
    original = image.format or ""
    resizer = Resizer(image, max(sizes.values()))
    kind = encoder.kind_for(original, resizer.at(max(sizes.values())))
    done: dict[tuple[int, int], bytes] = {}  # several sizes of a small picture may be the same
    for name, edge in sizes.items():
        small = resizer.at(edge)
        if small.size not in done:
            done[small.size] = encoder.encode(small, kind)
        yield _version(name, edge, small, done[small.size], _notes(kind, 1, frames))


def _animated(image: Image.Image, sizes: Mapping[str, int]) -> Iterator[Version]:
    kind, loop = image.format or "", animation.loop_options(image)
    made = animation.resize_frames(image, sorted(set(sizes.values()), reverse=True))
    done: dict[tuple[int, int], bytes] = {}
    for name, edge in sizes.items():
        frames, small = made[edge], made[edge][0].image
        if small.size not in done:
            done[small.size] = encoder.encode_animation(frames, kind, loop)
        yield _version(name, edge, small, done[small.size], _notes(kind, len(frames), len(frames)))


def _version(
    name: str, edge: int, image: Image.Image, data: bytes, notes: dict[str, Any]
) -> Version:
    return Version(
        name, *image.size, data, encoder.SUFFIX[notes["format"]], {"edge": edge, **notes}
    )


def _notes(kind: str, frames: int, of: int) -> dict[str, Any]:
    """How the version was written; for an animation also its frames, and those of the original."""
    return encoder.options_of(kind) | (
        {"frames": frames, "frames_of_original": of} if of > 1 else {}
    )
