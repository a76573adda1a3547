"""Pictures in, versions out: sizes, colours, metadata, animations, and files that lie."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import pytest
from PIL import ExifTags, Image, ImageCms, TiffImagePlugin

from relevo.errors import OptionError
from tasks.pictures import DEFAULT_SIZES, ImageError, NotAnImageError, make_versions, validate_sizes
from tests.support.pictures import difference, moving, saved, scene


def versions_of(file, sizes=None, **limits):
    return {
        version.name: version for version in make_versions(file, validate_sizes(sizes), **limits)
    }


def opened(version):
    picture = Image.open(io.BytesIO(version.data))
    picture.load()
    return picture


def only(file, edge=100, **limits):
    return opened(versions_of(file, {"only": edge}, **limits)["only"])


# -- sizes
# --------------------------------------------------------------------------------------------------


def test_without_sizes_the_three_of_every_picture_are_made_the_largest_first():
    versions = list(make_versions(saved(scene(2000, 1000)), validate_sizes(None)))
    assert [(v.name, v.width, v.height) for v in versions] == [
        ("large", 1024, 512),
        ("medium", 500, 250),
        ("thumbnail", 150, 75),
    ]
    assert all(opened(v).size == (v.width, v.height) for v in versions)
    assert {v.options["quality"] for v in versions} == {85}
    assert DEFAULT_SIZES == {"thumbnail": 150, "medium": 500, "large": 1024}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_a_small_picture_is_never_enlarged(kind):
    versions = versions_of(saved(scene(300, 200), kind))
    assert [(v.width, v.height) for v in versions.values()] == [(300, 200), (300, 200), (150, 100)]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((5000, 1), (100, 1)),
        ((1, 5000), (1, 100)),
        ((1, 1), (1, 1)),
        ((333, 1000), (33, 100)),
        ((6001, 4001), (100, 67)),
    ],
)
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_aspect_is_kept_to_the_pixel_and_no_edge_vanishes(size, expected, kind):
    assert only(saved(Image.new("RGB", size), kind)).size == expected


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "expected 1 to 20 sizes, got 0"),
        ({f"s{n}": 10 for n in range(21)}, "expected 1 to 20 sizes, got 21"),
        ([150], "expected sizes to map"),
        ("thumbnail", "expected sizes to map"),
        (150, "expected sizes to map"),
        ({"a": 0}, "got 0"),
        ({"a": -5}, "got -5"),
        ({"a": True}, "got True"),
        ({"a": 1.5}, "got 1.5"),
        ({"a": "150"}, "got '150'"),
        ({"a": None}, "got None"),
        ({"a": 8193}, "1 to 8192 pixels, got 8193"),
        ({"a": 10**30}, "pixels, got 1000"),
        ({"../x": 10}, "got '../x'"),
        ({"a/b": 10}, "got 'a/b'"),
        ({"": 10}, "got ''"),
        ({"Größe": 10}, "got 'Größe'"),
        ({"Large": 10}, "got 'Large'"),
        ({"a\n": 10}, r"got 'a\\n'"),
        ({"a\0": 10}, r"got 'a\\x00'"),
        ({".part": 10}, "got '.part'"),
        ({"a" * 41: 10}, "1 to 40"),
        ({7: 10}, "got 7"),
    ],
)
def test_invalid_sizes_are_named_in_the_error(given, says):
    with pytest.raises(OptionError, match=says):
        validate_sizes(given)


# -- quality
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("sizes", [None, {"a": 1000, "b": 990, "c": 600, "d": 40}])
def test_each_size_looks_as_if_made_from_the_original_itself(kind, sizes):
    original = scene(2200, 1467)
    for version in versions_of(
        saved(original, kind, **({"quality": 95} if kind == "JPEG" else {})), sizes
    ).values():
        direct = original.resize((version.width, version.height), Image.Resampling.LANCZOS)
        through_jpeg = Image.open(saved(direct, quality=85)) if kind == "JPEG" else direct
        allowed = 1.5 + difference(direct, through_jpeg)  # of 255
        assert difference(opened(version), direct) <= allowed, version.name


# -- orientation
# --------------------------------------------------------------------------------------------------


def turned(picture, orientation):
    """`picture` stored as a camera held that way would: turned, with a note how to turn it back."""
    back = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return picture.transpose(back) if back is not None else picture, exif


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_picture_taken_with_the_camera_turned_comes_out_upright(kind, orientation):
    original = scene(400, 300)
    stored, exif = turned(original, orientation)
    for version in versions_of(saved(stored, kind, exif=exif), {"a": 200, "b": 50}).values():
        upright = original.resize((version.width, version.height), Image.Resampling.LANCZOS)
        assert difference(opened(version), upright) < 8
        assert opened(version).getexif().get(ExifTags.Base.Orientation, 1) == 1


def test_an_animation_is_turned_upright_too():
    frames = [turned(frame, 6)[0] for frame in moving()]
    exif = turned(frames[0], 6)[1]
    picture = only(
        saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], exif=exif), 150
    )
    assert picture.size == (150, 100)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0", b"x" * 50]
)
def test_metadata_that_can_not_be_read_does_not_spoil_the_picture(exif):
    assert only(saved(scene(), exif=exif)).size == (100, 75)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_unknown_orientation_is_ignored(value):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    assert only(saved(scene(), exif=exif)).size == (100, 75)


# -- metadata and profiles
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "AVIF"])
def test_versions_have_no_metadata(kind):
    exif = Image.Exif()
    exif[ExifTags.Base.Artist] = "secret artist"
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "secret place"
    options = {
        "JPEG": {
            "comment": b"secret comment",
            "xmp": b"secret xmp",
            "exif": exif,
            "dpi": (300, 300),
        },
        "GIF": {"comment": b"secret comment"},
    }.get(kind, {"exif": exif})
    file = saved(scene(), kind, icc_profile=srgb(), **options)
    assert kind == "AVIF" or b"secret" in file.getvalue()
    for version in versions_of(file).values():
        assert b"secret" not in version.data
        left = {"exif", "icc_profile", "comment", "xmp", "dpi", "photoshop"} & opened(
            version
        ).info.keys()
        assert not left


def srgb():
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def swapped_profile():
    """A profile of the kind cameras and screens have, in which red is what sRGB calls blue."""
    data = bytearray(srgb())
    for number in range(struct.unpack_from(">I", data, 128)[0]):
        at = 132 + 12 * number
        data[at : at + 4] = {b"rXYZ": b"bXYZ", b"bXYZ": b"rXYZ"}.get(
            bytes(data[at : at + 4]), bytes(data[at : at + 4])
        )
    return bytes(data).replace("sRGB".encode("utf-16-be"), "Swap".encode("utf-16-be"))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_a_colour_profile_is_applied_and_dropped(kind):
    picture = only(saved(Image.new("RGB", (200, 200), "red"), kind, icc_profile=swapped_profile()))
    assert "icc_profile" not in picture.info
    red, green, blue = picture.convert("RGB").getpixel((50, 50))
    assert (red < 10, green < 10, blue > 245) == (True, True, True)


def test_a_profile_is_applied_beside_transparency():
    picture = only(
        saved(Image.new("RGBA", (200, 200), (255, 0, 0, 128)), "PNG", icc_profile=swapped_profile())
    )
    assert picture.getpixel((50, 50)) == pytest.approx((0, 0, 255, 128), abs=3)


@pytest.mark.parametrize("profile", [b"garbage", b"", srgb()[:200], b"\0" * 5000])
def test_a_broken_profile_is_ignored(profile):
    assert only(saved(Image.new("RGB", (200, 200), "red"), icc_profile=profile)).getpixel(
        (9, 9)
    ) == pytest.approx((254, 0, 0), abs=2)


@pytest.mark.parametrize("mode", ["L", "CMYK", "LA", "1"])
def test_a_profile_of_another_kind_of_picture_is_ignored(mode):
    picture = scene().convert(mode)
    expected = picture.convert("RGBA" if mode == "LA" else "RGB").resize(
        (100, 75), Image.Resampling.LANCZOS
    )
    assert difference(only(saved(picture, "TIFF", icc_profile=swapped_profile())), expected) < 8


# -- colour modes
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("1", "PNG"),
        ("1", "TIFF"),
        ("1", "BMP"),
        ("L", "JPEG"),
        ("L", "PNG"),
        ("L", "WEBP"),
        ("L", "GIF"),
        ("L", "AVIF"),
        ("LA", "PNG"),
        ("LA", "TIFF"),
        ("P", "PNG"),
        ("P", "GIF"),
        ("P", "BMP"),
        ("P", "TIFF"),
        ("RGBA", "PNG"),
        ("RGBA", "WEBP"),
        ("RGBA", "TIFF"),
        ("RGBA", "AVIF"),
        ("RGBA", "BMP"),
        ("CMYK", "JPEG"),
        ("CMYK", "TIFF"),
        ("YCbCr", "JPEG"),
        ("YCbCr", "TIFF"),
        ("LAB", "TIFF"),
        ("RGBX", "TIFF"),
    ],
)
def test_every_colour_mode_looks_as_it_did(mode, kind):
    source = scene().convert("L") if mode in {"1", "L", "LA"} else scene()
    if mode == "LAB":
        source = ImageCms.profileToProfile(
            source, srgb_profile(), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    picture = only(saved(source.convert(mode), kind))
    expected = scene().convert("L") if mode in {"1", "L", "LA"} else scene()
    assert difference(picture, expected.resize((100, 75), Image.Resampling.LANCZOS)) < 12


def srgb_profile():
    return ImageCms.createProfile("sRGB")


def grey_ramp(mode, top):
    """A ramp from black to white whose white is `top`."""
    ramp = Image.linear_gradient("L").convert("F").point(lambda value: value * (top / 255))
    return (
        ramp
        if mode == "F"
        else ramp.convert("I")
        if mode == "I"
        else ramp.convert("I").convert(mode)
    )


@pytest.mark.parametrize(
    ("mode", "top", "kind"),
    [
        ("I;16", 65535, "PNG"),
        ("I;16", 65535, "TIFF"),
        ("I;16B", 65535, "TIFF"),
        ("I", 65535, "TIFF"),
        ("I", 255, "TIFF"),
        ("I", 2_000_000, "TIFF"),
        ("F", 1, "TIFF"),
        ("F", 255, "TIFF"),
        ("F", 9000, "TIFF"),
    ],
)
def test_deep_greys_keep_their_range(mode, top, kind):
    picture = only(saved(grey_ramp(mode, top), kind), 256).convert("L")
    expected = Image.linear_gradient("L")
    assert difference(picture, expected) < 2, picture.getextrema()


def test_greys_that_are_not_numbers_are_a_clear_error():
    with pytest.raises(ImageError, match="finite"):
        only(saved(Image.new("F", (20, 20), float("nan")), "TIFF"))


def test_a_picture_of_one_grey_causes_no_division_by_zero():
    assert only(saved(Image.new("F", (20, 20), -7.0), "TIFF")).size == (20, 20)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF"])
def test_transparent_pixels_do_not_bleed_into_the_edge(kind):
    picture = Image.new("RGBA", (400, 400), (255, 0, 255, 0))  # magenta that must never be seen
    picture.paste((255, 255, 255, 255), (100, 100, 300, 300))
    small = only(
        saved(picture, kind, lossless=True, exact=True) if kind == "WEBP" else saved(picture, kind),
        37,
    )
    black = Image.new("RGBA", small.size, "black")
    red, green, _ = (
        Image.alpha_composite(black, small.convert("RGBA")).convert("RGB").getpixel((9, 18))
    )
    assert abs(red - green) < (40 if kind != "PNG" else 4)


@pytest.mark.parametrize(("mode", "key"), [("RGB", (0, 0, 255)), ("L", 0), ("P", 2), ("1", 0)])
def test_a_colour_that_stands_for_transparent_does_so_afterwards(mode, key):
    picture = Image.new("RGB", (200, 200), "white")
    picture.paste((0, 0, 255), (0, 0, 100, 200))
    picture = (
        picture.convert("L").point(lambda value: 255 * (value > 128))
        if mode in {"L", "1"}
        else picture
    )
    if mode == "P":
        picture = picture.quantize(4)
        key = picture.getpixel((5, 5))
    small = only(saved(picture.convert(mode), "PNG", transparency=key)).convert("RGBA")
    assert (small.getpixel((5, 50))[3], small.getpixel((95, 50))[3]) == (0, 255)


def test_sixteen_bit_grey_with_a_transparent_value_can_be_processed():
    png = saved(grey_ramp("I;16", 65535), "PNG").getvalue()
    trns = struct.pack(">I", 2) + b"tRNS\0\7" + struct.pack(">I", zlib.crc32(b"tRNS\0\7"))
    at = png.index(b"IDAT") - 4
    assert only(io.BytesIO(png[:at] + trns + png[at:])).size == (100, 100)


# -- kinds of file
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "becomes", "suffix"),
    [
        ("JPEG", "JPEG", ".jpg"),
        ("PNG", "PNG", ".png"),
        ("WEBP", "WEBP", ".webp"),
        ("GIF", "GIF", ".gif"),
        ("AVIF", "AVIF", ".avif"),
        ("TIFF", "JPEG", ".jpg"),
        ("BMP", "JPEG", ".jpg"),
        ("MPO", "JPEG", ".jpg"),
    ],
)
def test_a_kind_that_browsers_show_is_kept_the_others_become_jpeg(kind, becomes, suffix):
    options = {"save_all": True, "append_images": [scene()]} if kind == "MPO" else {}
    for version in versions_of(saved(scene(), kind, **options)).values():
        assert (opened(version).format, version.suffix, version.options["format"]) == (
            becomes,
            suffix,
            becomes,
        )


def test_a_transparent_tiff_becomes_png_and_an_opaque_one_with_an_alpha_channel_jpeg():
    picture = scene().convert("RGBA")
    assert only(saved(picture, "TIFF")).format == "JPEG"
    picture.putalpha(90)
    assert only(saved(picture, "TIFF")).format == "PNG"


def test_of_a_tiff_with_pages_the_first_is_taken():
    file = saved(
        Image.new("RGB", (200, 100), "red"),
        "TIFF",
        save_all=True,
        append_images=[Image.new("RGB", (9, 9))],
    )
    assert only(file).getpixel((50, 20)) == pytest.approx((254, 0, 0), abs=2)


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "jpeg", "packbits", "tiff_deflate"])
def test_compressed_tiffs_are_read(compression):
    assert only(saved(scene(), "TIFF", compression=compression)).size == (100, 75)


def test_a_progressive_jpeg_is_drafted_like_any_other():
    file = saved(scene(3000, 2000), progressive=True)
    assert difference(only(file), scene(3000, 2000).resize((100, 67), Image.Resampling.LANCZOS)) < 5


# -- animations
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
@pytest.mark.parametrize("background", [(200, 220, 255, 255), (0, 0, 0, 0)])
def test_an_animation_stays_one_frame_by_frame(kind, background):
    frames, durations = moving(6, background=background), [100, 110, 120, 130, 140, 150]
    file = saved(
        frames[0],
        kind,
        save_all=True,
        append_images=frames[1:],
        duration=durations,
        loop=3,
        **({"disposal": 2} if kind == "GIF" else {}),
    )
    for version in versions_of(file, {"whole": 1000, "half": 150}).values():
        picture = opened(version)
        assert (picture.format, picture.n_frames, version.options["frames"]) == (kind, 6, 6)
        assert kind == "AVIF" or picture.info["loop"] == 3
        for number, duration in enumerate(durations):
            picture.seek(number)
            picture.load()
            assert picture.info["duration"] == duration
            assert difference(picture, frames[number].resize(picture.size)) < 4


def test_an_animation_of_too_many_pixels_shows_its_first_frame_and_says_so():
    frames = moving(6)
    file = saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    version = versions_of(file, max_pixels=300 * 200 * 5)["thumbnail"]
    assert getattr(opened(version), "n_frames", 1) == 1
    assert (version.options["frames"], version.options["frames_of_original"]) == (1, 6)


def test_a_gif_that_plays_once_still_plays_once():
    frames = moving(3)
    assert (
        "loop"
        not in only(
            saved(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=90)
        ).info
    )


def test_the_picture_for_programs_without_animation_is_no_frame_of_an_animated_png():
    first, *others = moving(4)
    file = saved(
        Image.new("RGBA", first.size, "black"),
        "PNG",
        save_all=True,
        append_images=[first, *others],
        default_image=True,
        duration=100,
    )
    picture = only(file)
    assert picture.n_frames == 4
    assert difference(picture, first.resize(picture.size)) < 4


# -- files that lie
# --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x",
        b"hello, I am a text\n" * 100,
        b"%PDF-1.7\n",
        b"\0" * 5000,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\xff\xd8\xff",
        b"GIF89a",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
    ],
)
def test_a_file_that_is_no_image_is_told_apart_from_a_damaged_one(data):
    with pytest.raises(NotAnImageError, match=r"empty|not an image of a kind"):
        versions_of(io.BytesIO(data))


@pytest.mark.parametrize("kind", ["PPM", "ICO", "EPS", "PCX", "TGA"])
def test_formats_that_are_not_accepted_are_not_opened(kind):
    with pytest.raises(NotAnImageError, match="JPEG, PNG, WEBP"):
        versions_of(saved(scene(64, 64), kind))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_file_cut_short_is_an_error_and_no_half_grey_thumbnail(kind, part):
    whole = saved(scene(), kind).getvalue()
    with pytest.raises(ImageError, match=r"damaged|cut short|not an image"):
        versions_of(io.BytesIO(whole[: int(len(whole) * part)]))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "AVIF"])
def test_an_animation_cut_short_is_an_error_or_whole_frames(kind):
    frames = moving(6)
    whole = saved(frames[0], kind, save_all=True, append_images=frames[1:], duration=100).getvalue()
    try:
        picture = only(io.BytesIO(whole[: len(whole) * 2 // 3]))
    except ImageError:
        return
    assert difference(picture, frames[0].resize(picture.size)) < 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_flipped_bytes_end_as_a_picture_or_as_an_image_error(kind):
    whole = saved(scene(200, 150), kind).getvalue()
    for step in range(60):
        data = bytearray(whole)
        for at in range(step, len(data), max(61, len(data) // 8)):
            data[at] ^= 0xFF
        with contextlib.suppress(ImageError):
            assert versions_of(io.BytesIO(bytes(data)), {"a": 50}, max_pixels=1_000_000)


def bomb(width, height):
    """A PNG that claims to be huge, in a hundred bytes."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return io.BytesIO(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(20_000, 20_000), (2**31 - 1, 2**31 - 1), (120_000_001, 1)])
def test_a_decompression_bomb_is_stopped_before_it_goes_off(size):
    with pytest.raises(ImageError, match="pixels"):
        versions_of(bomb(*size))


def test_the_limit_itself_is_allowed():
    assert only(saved(Image.new("RGB", (100, 100)), "PNG"), max_pixels=10_000).size == (100, 100)
    with pytest.raises(ImageError, match="at most 9,999 pixels, got 100 x 100 = 10,000"):
        only(saved(Image.new("RGB", (100, 100)), "PNG"), max_pixels=9_999)


def test_an_error_of_the_disk_is_no_error_of_the_picture():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            if self.tell() > 5000:
                raise OSError(5, "Input/output error")
            return super().read(size)

    with pytest.raises(OSError, match="Input/output"):
        versions_of(Broken(saved(scene(2000, 1500)).getvalue()))


def test_a_tiff_whose_tags_point_nowhere_is_damaged():
    ifd = TiffImagePlugin.ImageFileDirectory_v2()
    ifd[256], ifd[257], ifd[273] = 100, 100, 10**6
    with pytest.raises(ImageError, match=r"damaged|not an image"):
        versions_of(io.BytesIO(b"II*\0\x08\0\0\0" + ifd.tobytes(8)))
