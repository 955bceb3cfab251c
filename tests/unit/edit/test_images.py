"""Whatever an image file is, an upright RGB picture comes out, or one line that says what is wrong with it."""

import base64
import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from jobs.edit import images

RED, WHITE = (255, 0, 0), (255, 255, 255)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png(width: int, height: int, bits: int, colour: int, rows: bytes) -> bytes:
    """A PNG by hand: Pillow writes neither 16-bit colour nor a header that lies."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def photograph() -> Image.Image:
    ramp = np.add.outer(np.arange(24), np.arange(32)).astype(np.uint8)
    return Image.fromarray(np.dstack([ramp * 3, 200 - ramp, ramp + 60]))


@pytest.fixture(autouse=True)
def global_limit_is_left_alone() -> Iterator[None]:
    before = Image.MAX_IMAGE_PIXELS
    yield
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP", "TIFF"])
def test_an_ordinary_file_is_decoded_without_a_note(kind: str) -> None:
    image, notes = images.decode(saved(photograph(), kind, **({"lossless": True} if kind == "WEBP" else {})))

    assert notes == []
    assert np.array_equal(np.asarray(image), np.asarray(photograph()))


def test_what_is_encoded_is_decoded_again() -> None:
    assert images.decode(images.encode(photograph()))[0].tobytes() == photograph().tobytes()


@pytest.mark.parametrize("before", ["", "data:image/png;base64,", "DATA:;BASE64,"])
def test_base64_is_taken_with_or_without_the_head_of_a_data_url_and_with_line_breaks(before: str) -> None:
    text = base64.encodebytes(saved(photograph(), "PNG")).decode()

    image, notes = images.from_base64(before + text)

    assert (image.size, image.mode, notes) == ((32, 24), "RGB", [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("data:image/png;base64,", "is empty"),
        ("data:image/png,raw", "data URL"),
        ("data:image/png;base64", "data URL"),
        ("iVBORw0KGgo*", "not whole base64"),
        ("iVBORw0KG", "cut off"),
        ("中文", "not whole base64"),
        (base64.b64encode(saved(photograph(), "PNG")).decode()[:101], "cut off"),
        (base64.b64encode(saved(photograph(), "PNG")).decode()[:100], "cannot be decoded"),
        (base64.b64encode(saved(photograph(), "JPEG")).decode()[:-400], "cannot be decoded"),
    ],
)
def test_base64_that_is_broken_is_said_in_one_line(text: str, said: str) -> None:
    with pytest.raises(images.ImageError, match=said) as caught:
        images.from_base64(text)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "0 bytes"),
        (b"not a picture at all", "no picture"),
        (b"\x89PNG\r\n\x1a\n", "PNG|truncated|decoded"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "so it is a text"),
        (b'\n<svg xmlns="http://www.w3.org/2000/svg"/>', "so it is a text"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture"),
        (b"\x00\x01\x02" * 40, "no picture"),
        (saved(photograph(), "ICO"), "no picture"),
        (png(60_000, 60_000, 8, 2, b""), "more than 64,000,000"),
        (png(8_001, 8_000, 8, 2, b""), "8001 x 8000 pixels are more than"),
        (png(8_000, 8_000, 8, 2, b"\0" * 90), "truncated|decoded"),
        (png(0, 5, 8, 2, b""), "decoded|none to edit|no picture"),
    ],
    ids=["empty", "text", "signature", "html", "svg", "postscript", "noise", "icon", "bomb", "just too large",
         "large header, little data", "no width"],
)  # fmt: skip
def test_what_is_no_usable_picture_is_said_in_one_line(data: bytes, said: str) -> None:
    with pytest.raises(images.ImageError, match=said) as caught:
        images.decode(data)

    assert "\n" not in str(caught.value)


def test_a_gif_whose_frame_is_larger_than_its_screen_says_is_refused_too() -> None:
    data = bytearray(saved(Image.new("P", (4, 4)), "GIF"))
    frame = data.index(b"\x2c\0\0\0\0")
    data[frame + 5 : frame + 9] = struct.pack("<HH", 65_535, 65_535)

    with pytest.raises(images.ImageError, match="scale the image down"):
        images.decode(bytes(data))


def test_one_pixel_and_twenty_megapixels_are_pictures() -> None:
    assert images.decode(saved(Image.new("RGB", (1, 1), RED), "PNG"))[0].getpixel((0, 0)) == RED
    large = images.decode(saved(Image.new("L", (5_000, 4_000), 9), "PNG", compress_level=1))[0]
    assert (large.size, large.mode) == ((5_000, 4_000), "RGB")


@pytest.mark.parametrize(("kind", "options"), [("GIF", {}), ("WEBP", {"lossless": True}), ("PNG", {})])
def test_of_an_animation_the_first_frame_is_taken(kind: str, options: dict[str, object]) -> None:
    rest = [Image.new("RGB", (8, 8), colour) for colour in ("lime", "blue")]

    image, notes = images.decode(
        saved(Image.new("RGB", (8, 8), RED), kind, save_all=True, append_images=rest, duration=50, **options)
    )

    assert image.getpixel((4, 4)) == RED
    assert "an animation: its first frame is used" in notes


def test_cmyk_becomes_rgb() -> None:
    image, notes = images.decode(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))

    red, green, blue = image.getpixel((4, 4))
    assert red > 240
    assert max(green, blue) < 15
    assert notes == ["CMYK: converted to RGB"]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_of_gray_become_eight_instead_of_being_cut_at_255(kind: str) -> None:
    values = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)

    image, notes = images.decode(saved(Image.fromarray(values), kind))

    assert np.array_equal(np.asarray(image)[..., 0], values >> 8)
    assert notes == ["more than 8 bits: converted to 8"]


def test_sixteen_bits_of_colour_become_eight() -> None:
    row = b"\0" + struct.pack(">6H", 65_535, 0, 0, 0x8000, 0x4000, 0x2000)

    image, notes = images.decode(png(2, 1, 16, 2, row))

    assert [image.getpixel((x, 0)) for x in (0, 1)] == [RED, (128, 64, 32)]
    assert notes == ["more than 8 bits: converted to 8"]


@pytest.mark.parametrize(
    ("top", "dtype"), [(1.0, np.float32), (255.0, np.float32), (255, np.int32), (65_535, np.int32)]
)
def test_gray_of_32_bits_is_taken_by_the_values_it_has(top: float, dtype: type) -> None:
    values = np.linspace(0, top, 16).reshape(4, 4).astype(dtype)

    image, _ = images.decode(saved(Image.fromarray(values), "TIFF"))

    assert np.abs(np.asarray(image)[..., 0] - np.linspace(0, 255, 16).reshape(4, 4)).max() <= 1


@pytest.mark.parametrize("value", [-1.0, 70_000.0, float("nan")])
def test_values_that_no_picture_has_are_refused(value: float) -> None:
    with pytest.raises(images.ImageError, match="8 or 16 bits"):
        images.decode(saved(Image.fromarray(np.full((4, 4), value, np.float32)), "TIFF"))


def test_what_is_transparent_is_put_on_white() -> None:
    palette = Image.new("P", (8, 8), 1)
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.paste(0, (0, 0, 4, 8))

    for data in (saved(palette, "PNG", transparency=0), saved(Image.new("RGBA", (8, 8), (0, 0, 0, 0)), "PNG")):
        image, notes = images.decode(data)
        assert image.getpixel((1, 1)) == WHITE
        assert "transparent: put on white" in notes
    assert images.decode(saved(palette, "PNG", transparency=0))[0].getpixel((6, 6)) == RED


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_upright_as_its_exif_says(orientation: int) -> None:
    upright = photograph()
    back = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90",
            7: "TRANSVERSE", 8: "ROTATE_270"}  # fmt: skip
    stored = upright.transpose(Image.Transpose[back[orientation]]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation

    image, notes = images.decode(saved(stored, "PNG", exif=exif))

    assert image.tobytes() == upright.tobytes()
    assert notes == ["turned upright as its EXIF data say"] * (orientation > 1)


def test_thumbnails_keep_their_form_and_are_small() -> None:
    assert images.shrink(Image.new("RGB", (1_000, 250))).size == (160, 40)
    assert images.shrink(Image.new("RGB", (1, 900))).size == (1, 160)
    assert images.shrink(photograph()).size == (32, 24)
    assert len(images.thumbnail(Image.new("RGB", (1_000, 250), RED))) < 2_000


def outcome(data: bytes) -> tuple[str, str]:
    try:
        return images.decode(data)[0].mode, ""
    except images.ImageError as error:
        return "", str(error)


FILES = [saved(photograph(), kind) for kind in images.FORMATS]


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_a_picture_or_an_image_error_and_nothing_else(data: st.DataObject) -> None:
    damaged = bytearray(data.draw(st.sampled_from(FILES)))
    for place in data.draw(st.lists(st.integers(0, len(damaged) - 1), max_size=6)):
        damaged[place] = data.draw(st.integers(0, 255))
    del damaged[data.draw(st.integers(0, len(damaged))) :]

    mode, said = outcome(bytes(damaged))

    assert mode == "RGB" or ("\n" not in said and len(said) > 10)
