"""All versions of one picture, one by one, the largest first, so that each can be stored before the
next is made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from PIL import Image

from tasks.pictures import moving, writing
from tasks.pictures.reading import MAX_PIXELS, opened
from tasks.pictures.shrinking import Shrinker


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
    """The picture in `file` at each of `sizes` (as `checked_sizes` gives them: largest first).

    Raises NotAnImageError for what is no picture of a kind we know, ImageError for one that is too
    large or damaged, OSError where the file can't be read just now.
    """
    with opened(file, max_pixels) as image:
        frames = moving.frame_count(image)
        if frames > 1 and moving.affordable(image, max_pixels):
            yield from _animated(image, sizes)
        else:
            yield from _still(image, sizes, frames)


def _still(image: Image.Image, sizes: Mapping[str, int], frames: int) -> Iterator[Version]:
    original = image.format or ""
    shrinker = Shrinker(image, max(sizes.values()))
    kind = writing.kind_for(original, shrinker.at(max(sizes.values())))
    done: dict[tuple[int, int], bytes] = {}  # of a small picture, several sizes are the same
    for name, edge in sizes.items():
        small = shrinker.at(edge)
        if small.size not in done:
            done[small.size] = writing.encoded(small, kind)
        yield _version(name, edge, small, done[small.size], _notes(kind, 1, frames))


def _animated(image: Image.Image, sizes: Mapping[str, int]) -> Iterator[Version]:
    kind, loop = image.format or "", moving.loops(image)
    made = moving.shrunk_frames(image, sorted(set(sizes.values()), reverse=True))
    done: dict[tuple[int, int], bytes] = {}
    for name, edge in sizes.items():
        frames, small = made[edge], made[edge][0].image
        if small.size not in done:
            done[small.size] = writing.encoded_animation(frames, kind, loop)
        yield _version(name, edge, small, done[small.size], _notes(kind, len(frames), len(frames)))


def _version(
    name: str, edge: int, image: Image.Image, data: bytes, notes: dict[str, Any]
) -> Version:
    return Version(
        name, *image.size, data, writing.SUFFIX[notes["format"]], {"edge": edge, **notes}
    )


def _notes(kind: str, frames: int, of: int) -> dict[str, Any]:
    """How the version was written; of an animation also how many frames are left of how many."""
    return writing.options_of(kind) | (
        {"frames": frames, "frames_of_original": of} if of > 1 else {}
    )
