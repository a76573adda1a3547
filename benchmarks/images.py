"""CPU seconds of a picture: our code, plain Pillow with the same steps, and one decoding for each
size.

    python benchmarks/images.py [ROUNDS]

The rounds of the three are interleaved; ratios are of medians. "Bare" has the steps of ours (decode
once, a JPEG in draft mode; reduce; make each size from the next larger one; encode with the same
settings), but no checks, modes, profiles or orientation. "Anew" is the naive loop over the sizes:
open, resize, save.

All three encode the same, and for some kinds that is nearly all of the work. The last column leaves
encoding out, and shows what decoding once saves.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import sys
import time
from pathlib import Path
from unittest import mock

from PIL import Image

sys.path.insert(0, str(Path(__file__).parent.parent))

from tasks.pictures import encoder, make_versions, validate_sizes
from tasks.pictures.resizer import fit
from tests.support.pictures import moving, saved, scene

SIZES = validate_sizes(None)
ENCODING = True
OPTIONS = {
    "PNG": {"compress_level": 4},
    "JPEG": {"quality": 85, "optimize": True},
    "WEBP": {"quality": 85},
    "AVIF": {"quality": 85},
}


def grain(picture):
    """Noise as of a camera. Without it every decoder and encoder is too fast."""
    noise = Image.effect_noise(picture.size, 24).convert("RGB")
    return Image.blend(picture.convert("RGB"), noise, 0.15)


def pictures():
    camera = grain(scene(6000, 4000))
    phone = grain(scene(4000, 3000))
    web = grain(scene(1920, 1080))
    clear = web.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    return {
        "JPEG 6000x4000": saved(camera, quality=92),
        "JPEG 4000x3000": saved(phone, quality=90),
        "JPEG 4000x3000 progressive": saved(phone, quality=90, progressive=True),
        "JPEG 1920x1080": saved(web, quality=90),
        "PNG 4000x3000": saved(phone, "PNG"),
        "PNG 1920x1080 alpha": saved(clear, "PNG"),
        "WEBP 4000x3000": saved(phone, "WEBP"),
        "TIFF 4000x3000 lzw": saved(phone, "TIFF", compression="tiff_lzw"),
        "BMP 4000x3000": saved(phone, "BMP"),
        "AVIF 1920x1080": saved(web, "AVIF"),
        "GIF 1920x1080": saved(web, "GIF"),
        "GIF 600x400, 30 frames": animated(),
    }


def animated():
    first, *others = moving(30, (600, 400))
    return saved(first, "GIF", save_all=True, append_images=others, duration=50, loop=0)


def ours(data):
    return [version.data for version in make_versions(io.BytesIO(data), SIZES)]


def bare(data):
    """Code for one kind of picture, by a programmer who knows Pillow well."""
    with Image.open(io.BytesIO(data)) as image:
        if getattr(image, "is_animated", False):
            return bare_animation(image)
        draft = image.draft(None, [int(edge * 1.5) for edge in fit(image.size, 1024)])
        box = draft[1] if draft else (0, 0, *image.size)
        return bare_sizes(image.convert("RGB") if image.mode == "P" else image, box, image.format)


def bare_sizes(image, box, kind):
    whole, out = (box[2], box[3]), []
    for edge, gap in zip(SIZES.values(), (1.5, 1.5, 3), strict=True):
        image = image.resize(
            fit(whole, edge),
            Image.Resampling.LANCZOS,
            box if not out else None,
            reducing_gap=gap,
        )
        out.append(written(image, kind))
    return out


def bare_animation(image):
    made = {edge: [] for edge in SIZES.values()}
    for number in range(image.n_frames):
        image.seek(number)
        frame = image.convert("RGB")
        for (edge, frames), gap in zip(made.items(), (1.5, 1.5, 3), strict=True):
            frame = frame.resize(fit(image.size, edge), Image.Resampling.LANCZOS, reducing_gap=gap)
            frames.append(frame)
    return [joined(frames) for frames in made.values()]


def anew(data):
    return [anew_size(data, edge) for edge in SIZES.values()]


def anew_size(data, edge):
    with Image.open(io.BytesIO(data)) as image:
        size, frames = fit(image.size, edge), []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            frame = image.convert("RGB") if image.mode == "P" else image
            frames.append(frame.resize(size, Image.Resampling.LANCZOS))
        return joined(frames) if len(frames) > 1 else written(frames[0], image.format)


def joined(frames):
    if not ENCODING:
        return b""
    first, *others = [frame.quantize(255) for frame in frames]
    return saved(first, "GIF", save_all=True, append_images=others, duration=50).getvalue()


def written(image, kind):
    if not ENCODING:
        return b""
    kind = "JPEG" if kind in {"TIFF", "BMP"} else kind
    return saved(
        image.quantize(255) if kind == "GIF" else image, kind, **OPTIONS.get(kind, {})
    ).getvalue()


@contextlib.contextmanager
def no_encoding():
    """Within the block nothing is encoded."""
    global ENCODING  # noqa: PLW0603  one switch for all three
    ENCODING = False
    with (
        mock.patch.object(encoder, "encoded", return_value=b""),
        mock.patch.object(encoder, "encode_animation", return_value=b""),
    ):
        yield
    ENCODING = True


def cpu_seconds(way, data):
    began = time.process_time()
    way(data)
    return time.process_time() - began


def medians(data, rounds, ways):
    taken = {way: [] for way in ways}
    for _ in range(rounds):
        for way, times in taken.items():
            times.append(cpu_seconds(way, data))
    return [statistics.median(times) for times in taken.values()]


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    print(f"{'picture':<28} ours ms  bare ms  anew ms  ours/bare  ours/anew  unencoded")
    for name, file in pictures().items():
        mine, by_hand, naive = medians(file.getvalue(), rounds, (ours, bare, anew))
        with no_encoding():
            bare_mine, bare_naive = medians(file.getvalue(), rounds, (ours, anew))
        print(
            f"{name:<28}{mine * 1000:>9.0f}{by_hand * 1000:>9.0f}{naive * 1000:>9.0f}"
            f"{mine / by_hand:>11.2f}{mine / naive:>11.2f}{bare_mine / bare_naive:>11.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
