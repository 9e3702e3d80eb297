"""Image files: what is written is read, and what cannot be read is named."""

import gc
import struct
import subprocess
import sys
import zlib

import imageio.v2
import numpy as np
import pytest
import tifffile
from PIL import Image

from deepsplit_core import images
from deepsplit_core.images import read_image, with_replacement, write_labels, write_png


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("name", ["a.tif", "b.TIFF"])
def test_tiff(tmp_path, name, dtype):
    image = np.arange(35).reshape(5, 7).astype(dtype)
    tifffile.imwrite(tmp_path / name, image)
    read = read_image(tmp_path / name)
    assert read.dtype == dtype
    assert np.array_equal(read, image)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png(tmp_path, dtype):
    image = (np.arange(35).reshape(5, 7) * (1 if dtype == np.uint8 else 1800)).astype(dtype)
    imageio.v2.imwrite(tmp_path / "a.png", image)
    assert np.array_equal(read_image(str(tmp_path / "a.png")), image)


def png_of(colour_type, values):
    """The bytes of a PNG with 16 bits for each value (Y, X, C), which Pillow does not write."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    n_rows, n_columns = values.shape[:2]
    head = struct.pack(">IIBBBBB", n_columns, n_rows, 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_grey_png_is_read_without_its_opacity(tmp_path):
    grey = np.arange(35, dtype=np.uint8).reshape(5, 7)
    Image.merge("LA", [Image.fromarray(part) for part in (grey, 255 - grey)]).save(tmp_path / "a.png")
    for is_labels in (False, True):
        assert np.array_equal(read_image(tmp_path / "a.png", is_labels), grey)


@pytest.mark.parametrize(("colour_type", "n_values"), [(0, 1), (4, 2), (2, 3), (6, 4)])
def test_a_png_whose_grey_values_would_lose_bits_is_refused(tmp_path, colour_type, n_values):
    values = np.repeat(np.arange(0, 35 * 1800, 1800, np.uint16).reshape(5, 7, 1), n_values, axis=2)
    (tmp_path / "a.png").write_bytes(png_of(colour_type, values))
    if colour_type == 0:  # grey alone
        assert np.array_equal(read_image(tmp_path / "a.png"), values[..., 0])
    else:
        with pytest.raises(ValueError, match="a.png has colours or opacity of 16 bits, of which 8 would be read: save"):
            read_image(tmp_path / "a.png")


def test_a_palette_shows_labels_to_a_person(tmp_path):
    """Written by GIMP, Fiji or PIL: the file holds numbers, and a colour for each of them."""
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    picture = Image.fromarray(labels)
    picture.putpalette(list(range(255, -1, -1)) * 3)
    picture.save(tmp_path / "labels.png")
    assert np.array_equal(read_image(tmp_path / "labels.png", is_labels=True), labels)
    assert read_image(tmp_path / "labels.png").shape == (3, 4, 3)


def test_colours_and_planes_are_read_as_stored(tmp_path):
    tifffile.imwrite(tmp_path / "planes.tif", np.zeros((4, 5, 7), np.uint16), photometric="minisblack")
    imageio.v2.imwrite(tmp_path / "colour.png", np.zeros((5, 7, 3), np.uint8))
    assert read_image(tmp_path / "planes.tif").shape == (4, 5, 7)
    assert read_image(tmp_path / "colour.png").shape == (5, 7, 3)


@pytest.mark.parametrize("shape", [(1, 5, 7), (5, 7, 1), (1, 1, 1, 5, 7, 1), (1, 1, 7), (5, 1, 1)])
def test_axes_of_length_1_beside_y_and_x_are_left_out(tmp_path, shape):
    """As programs write them that convert CZI and ND2 to TIFF: there is nothing to choose from."""
    image = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    tifffile.imwrite(tmp_path / "plane.tif", image, photometric="minisblack")
    assert read_image(tmp_path / "plane.tif").ndim == 2
    assert np.array_equal(read_image(tmp_path / "plane.tif").ravel(), image.ravel())


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_a_grey_tiff_is_read_without_its_opacity(tmp_path, compression):
    grey = np.arange(35, dtype=np.uint8).reshape(5, 7)
    Image.fromarray(np.stack([grey, 255 - grey], axis=-1), "LA").save(tmp_path / "a.tif", compression=compression)
    assert np.array_equal(read_image(tmp_path / "a.tif"), grey)


def test_a_mask_of_one_bit_comes_back(tmp_path):
    """tifffile itself says of it that 0 is white; a fax' compression is read by Pillow, as it is seen."""
    mask = np.indices((16, 24)).sum(axis=0) > 12
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    Image.fromarray(mask).save(tmp_path / "fax.tif", compression="group4", tiffinfo={262: 0})
    assert np.array_equal(read_image(tmp_path / "mask.tif"), mask)
    with Image.open(tmp_path / "fax.tif") as picture:
        assert picture.tag_v2[262] == 0
        assert np.array_equal(read_image(tmp_path / "fax.tif"), np.array(picture))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_compressed_tiff(tmp_path, compression, dtype):
    """As ImageJ, microscopes and annotation programs write it."""
    image = (np.arange(35).reshape(5, 7) * 7).astype(dtype)
    Image.fromarray(image).save(tmp_path / "a.tif", compression=compression)
    assert np.array_equal(read_image(tmp_path / "a.tif"), image)


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("shape", [(3, 5, 7), (2, 3, 5, 7)])
def test_every_page_is_read(tmp_path, compression, shape):
    """Else the first plane of a stack would be taken for the image. ImageJ's has channels and planes."""
    pages = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    first, *others = map(Image.fromarray, pages.reshape(-1, 5, 7))
    text = "ImageJ=1.53\nimages=6\nchannels=3\nslices=2\nhyperstack=true\n" if len(shape) == 4 else "a stack"
    settings = {"compression": compression, "tiffinfo": {270: text}}
    first.save(tmp_path / "a.tif", save_all=True, append_images=others, **settings)
    assert np.array_equal(read_image(tmp_path / "a.tif"), pages)


@pytest.mark.parametrize("shapes", [((5, 6), (5, 6)), ((5, 6), (7, 6))])
def test_images_that_are_no_stack_are_refused_and_not_the_first_taken(tmp_path, shapes):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for shape in shapes:
            file.write(np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match=r"a.tif holds 2 images, of the shapes \(5, 6\), .* that are no stack"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("kinds", [(0, 1), (1, 0), (1,)])
def test_a_thumbnail_is_no_second_image_and_alone_the_first(tmp_path, kinds):
    images = np.arange(30, dtype=np.uint8).reshape(5, 6), np.zeros((2, 3), np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for kind in kinds:
            file.write(images[kind], subfiletype=kind)
    assert np.array_equal(read_image(tmp_path / "a.tif"), images[min(kinds)])


@pytest.mark.parametrize("has_companion", [True, False])
def test_a_file_of_an_ome_tiff_set_is_its_own_image(tmp_path, has_companion):
    """Micro-Manager and Bio-Formats write a file for each position or channel, and name all of them in each."""
    data = "".join(
        f'<TiffData FirstC="{c}" IFD="0" PlaneCount="1"><UUID FileName="c{c}.ome.tif">urn:uuid:{c}</UUID></TiffData>'
        for c in range(2)
    )
    sizes = " ".join(f'Size{axis}="{n}"' for axis, n in zip("XYCZT", (6, 5, 2, 1, 1)))
    pixels = f'<Pixels ID="P" DimensionOrder="XYCZT" Type="uint8" {sizes}>{data}'
    for c in range(1 + has_companion):
        text = f'<?xml version="1.0"?><OME UUID="urn:uuid:{c}"><Image ID="I">{pixels}</Pixels></Image></OME>'
        image = np.full((5, 6), c + 1, np.uint8)
        tifffile.imwrite(tmp_path / f"c{c}.ome.tif", image, description=text, metadata=None)
    for c in range(1 + has_companion):
        assert np.array_equal(read_image(tmp_path / f"c{c}.ome.tif"), np.full((5, 6), c + 1))


@pytest.mark.parametrize(("dtype", "stored", "sample_format"), [(np.int8, np.uint8, 2), (np.uint32, np.int32, 1)])
def test_types_that_pillow_does_not_know_keep_their_sign(tmp_path, dtype, stored, sample_format):
    image = np.array([[0, 1, np.iinfo(dtype).max], [np.iinfo(dtype).min, 5, 6]], dtype)
    Image.fromarray(image.view(stored)).save(tmp_path / "a.tif", compression="tiff_lzw", tiffinfo={339: 1})
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags[339].overwrite(sample_format)
    read = read_image(tmp_path / "a.tif")
    assert read.dtype == dtype
    assert np.array_equal(read, image)


def test_what_no_decoder_here_knows_is_named(tmp_path):
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(tmp_path / "a.tif", compression="tiff_lzw", tiffinfo={339: 1})
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags[339].overwrite(3)  # 16-bit floats
    with pytest.raises(ValueError, match=r"a\.tif is not read: its compression \(LZW\).* Save it uncompressed"):
        read_image(tmp_path / "a.tif")


def test_a_chain_of_pages_without_an_end_is_not_followed(tmp_path):
    """Whoever does never comes back: so in a process of its own. Some versions of tifffile read what is before it."""
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 5), np.uint8), metadata=None)
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    (first,) = struct.unpack_from("<I", raw, 4)
    (n_tags,) = struct.unpack_from("<H", raw, first)
    struct.pack_into("<I", raw, first + 2 + 12 * n_tags, len(raw))
    raw += struct.pack("<HI", 0, len(raw))  # a page without tags, which is followed by itself
    (tmp_path / "a.tif").write_bytes(raw)
    code = "import sys; from deepsplit_core.images import read_image; read_image(sys.argv[1])"
    result = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.tif"], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0 or "a.tif could not be read as an image: it is damaged" in result.stderr


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_values_are_as_stored_where_zero_is_white(tmp_path, dtype):
    """Labels may be stored so, and 0 has to stay their background."""
    image = (np.arange(35).reshape(5, 7) * 7).astype(dtype)
    tifffile.imwrite(tmp_path / "plain.tif", image, photometric="miniswhite")
    given = ~image if dtype == np.uint8 else image  # of these Pillow stores the inverse
    Image.fromarray(given).save(tmp_path / "lzw.tif", compression="tiff_lzw", tiffinfo={262: 0})
    for name in ("plain.tif", "lzw.tif"):
        assert np.array_equal(read_image(tmp_path / name), image), name


@pytest.mark.parametrize(("name", "compression"), [("a.png", None), ("a.tif", "tiff_lzw")])
def test_image_too_large_for_pillow_is_not_called_damaged(tmp_path, monkeypatch, name, compression):
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(tmp_path / name, compression=compression)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)
    with pytest.raises(ValueError, match=rf"{name} is not read: so large an image has to be a TIFF, uncompressed"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("name", ["gone", "folder"])
def test_missing_file(tmp_path, name):
    (tmp_path / "folder.tif").mkdir()
    with pytest.raises(FileNotFoundError, match=rf"There is no image file .*{name}\.tif"):
        read_image(tmp_path / f"{name}.tif")


def test_other_kinds_of_files(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"a\.jpg is not read: .* '\.jpg', expected \.tif \.tiff \.png\. Save it"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # imageio leaves a damaged file open
@pytest.mark.parametrize("name", ["a.tif", "a.png"])
@pytest.mark.parametrize("content", [b"", b"no image at all", b"II*\0\x08", b"\x89PNG\r\n\x1a\n"])
def test_damaged_file(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} could not be read as an image: it is damaged"):
        read_image(tmp_path / name)
    gc.collect()  # here, where the warning is ignored, not in the middle of another test


@pytest.mark.parametrize("n", [0, 7, 65535, 65536, 70000])
def test_labels_come_back_whatever_their_number(tmp_path, n):
    labels = np.zeros((300, 300), np.int32)
    labels.ravel()[:n] = np.arange(1, n + 1)
    write_labels(tmp_path / "l.tif", labels)
    read = read_image(tmp_path / "l.tif")
    assert np.array_equal(read, labels)
    assert read.dtype == (np.uint16 if n <= 65535 else np.int32)
    assert (tmp_path / "l.tif").stat().st_size < read.nbytes


def test_overlay_comes_back(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    write_png(tmp_path / "o.png", image)
    assert np.array_equal(read_image(tmp_path / "o.png"), image)


def test_interrupted_write_leaves_no_file(tmp_path):
    def interrupted(part):
        part.write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with_replacement(tmp_path / "a.tif", interrupted)
    assert list(tmp_path.iterdir()) == []


def test_interrupted_write_keeps_the_old_file(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        with_replacement(tmp_path / "a.tif", lambda part: part.write_bytes(b"new") / 0)
    assert (tmp_path / "a.tif").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("n_refused", [1, 4])
def test_a_file_that_another_program_holds_for_a_moment_is_waited_for(tmp_path, monkeypatch, n_refused):
    refusals, replace, waited = [PermissionError(13, "Access is denied")] * n_refused, images.os.replace, []

    def refuse(*paths):
        if refusals:
            raise refusals.pop()
        replace(*paths)

    monkeypatch.setattr(images.os, "replace", refuse)
    monkeypatch.setattr(images.time, "sleep", waited.append)
    with_replacement(tmp_path / "a.tif", lambda part: part.write_bytes(b"new"))
    assert (tmp_path / "a.tif").read_bytes() == b"new"
    assert len(waited) == n_refused and sum(waited) <= 2


def test_a_file_that_may_not_be_replaced_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Access is denied")

    monkeypatch.setattr(images.os, "replace", refuse)
    monkeypatch.setattr(images.time, "sleep", lambda seconds: None)
    with pytest.raises(OSError, match=r"a\.tif could not be written \(Access is denied\)"):
        with_replacement(tmp_path / "a.tif", lambda part: part.write_bytes(b"new"))
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_says_what_would_do(tmp_path):
    def full(part):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match=r"a\.tif could not be written \(No space left on device\): choose a folder"):
        with_replacement(tmp_path / "a.tif", full)


def test_a_name_as_long_as_the_file_system_takes_is_written(tmp_path):
    path = tmp_path / ("細" * 83 + ".tif")  # 253 bytes of the 255 that are usual
    write_labels(path, np.ones((3, 4), np.int32))
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("error", [MemoryError, PermissionError])
def test_what_is_no_fault_of_the_file_is_not_called_damage(tmp_path, monkeypatch, error):
    path = tmp_path / "a.tif"
    write_labels(path, np.ones((3, 4), np.int32))

    def fail(*_, **__):
        raise error("no")

    monkeypatch.setattr("tifffile.TiffFile", fail)
    with pytest.raises(error):
        read_image(path)
