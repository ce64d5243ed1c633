"""Pictures are decoded and resized exactly as Pillow does it.

Up to version 12 Pillow resamples rows first and columns then, as it did when the models were trained; version 13 takes the
columns of tall pictures first (12.3 those of pictures 100 times as high as wide), which rounds differently.
"""
import io
import os
import random
import struct
import subprocess
import zlib
from pathlib import Path

import pytest
from PIL import Image, ImageOps

TOOL = os.environ["JAEDA_IMAGE_TOOL"]
PHOTOS = Path(__file__).resolve().parents[3] / "shared" / "data" / "photos"


def run(*arguments):
    done = subprocess.run([TOOL, *map(str, arguments)], capture_output=True, timeout=60)
    if done.returncode:
        return done.stderr.decode().strip()
    size, _, raw = done.stdout.partition(b"\n")
    return Image.frombytes("RGB", tuple(map(int, size.split())), raw)


def reference(file):
    return ImageOps.exif_transpose(Image.open(file)).convert("RGB")


def same(got, want, what):
    assert not isinstance(got, str), f"{what}: {got}"
    assert got.size == want.size, f"{what}: {got.size}, not {want.size}"
    assert got.tobytes() == want.tobytes(), f"{what}: other pixels"


def picture(width, height, seed, mode="RGB"):
    """Smooth areas, edges and noise; every band another."""
    r = random.Random(seed)
    def band(k):
        noise = Image.frombytes("L", (width, height), r.randbytes(width * height))
        slope = Image.linear_gradient("L").rotate(90 * k).resize((width, height))
        return Image.blend(noise, slope, 0.25 * (1 + k % 3))
    return Image.merge(mode, [band(k) for k in range(len(mode))]) if len(mode) > 1 else band(0)


def test_resize_is_pillows_on_200_sizes(tmp_path):
    r = random.Random(1)
    edge = [1, 2, 3, 7, 13, 14, 223, 224, 225, 448, 640, 1000]
    pairs = [((w, h), (224, 224)) for w in edge for h in (1, 5, 197, 333) if h < 100 * w]
    pairs += [((224, 224), (w, h)) for w in edge for h in (1, 448)]
    while len(pairs) < 210:
        pairs.append(((r.randint(5, 500), r.randint(1, 499)), (r.randint(1, 500), r.randint(1, 500))))
    for i, (size, to) in enumerate(pairs):
        image, file = picture(*size, seed=i), tmp_path / "in.png"
        image.save(file)
        same(run("resize", file, *to), image.resize(to, Image.Resampling.BICUBIC), f"{size} to {to}")


def jpegs():
    rgb = picture(123, 77, 5)
    smooth = rgb.resize((40, 30)).resize((161, 119), Image.Resampling.BICUBIC)
    for name, options in {"baseline": {}, "progressive": {"progressive": True}, "444": {"subsampling": 0}, "422": {"subsampling": 1},
                          "rough": {"quality": 10}, "restart": {"restart_marker_blocks": 3}, "keep": {"keep_rgb": True}}.items():
        for image in (rgb, smooth):
            yield f"jpeg-{name}", image, "JPEG", options
    yield "jpeg-grey", rgb.convert("L"), "JPEG", {}
    yield "jpeg-cmyk", picture(90, 61, 6, "CMYK"), "JPEG", {"quality": 95}
    yield "jpeg-one", picture(1, 1, 7), "JPEG", {}
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for kind in ("JPEG", "PNG", "WEBP"):
            yield f"{kind}-turned-{orientation}", picture(37, 21, orientation), kind, {"exif": exif} | ({"lossless": True} if kind == "WEBP" else {})


def others():
    rgba = picture(70, 50, 8, "RGBA")
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield f"png-{mode}", rgba.convert(mode), "PNG", {}
    for colours in (2, 4, 16, 200):
        yield f"png-palette-{colours}", rgba.convert("RGB").quantize(colours), "PNG", {"bits": max(1, (colours - 1).bit_length())}
    yield "png-palette-transparent", rgba.convert("RGB").quantize(60), "PNG", {"transparency": 3}
    yield "png-transparent-colour", rgba.convert("RGB"), "PNG", {"transparency": (1, 2, 3)}
    for name, options in {"lossy": {}, "lossless": {"lossless": True}, "rough": {"quality": 5}}.items():
        yield f"webp-{name}", rgba.convert("RGB"), "WEBP", options
        yield f"webp-{name}-alpha", rgba, "WEBP", options | {"exact": True}


@pytest.mark.parametrize("name, image, kind, options", [pytest.param(*c, id=c[0]) for c in [*jpegs(), *others()]])
def test_decoding_is_pillows(tmp_path, name, image, kind, options):
    file = tmp_path / name
    image.save(file, format=kind, **options)
    same(run("decode", file), reference(file), name)


def png(width, height, depth, colour, rows, interlace=0, extra=b""):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_sixteen_bits_keep_their_upper_eight(tmp_path):
    r, file = random.Random(3), tmp_path / "x.png"
    for colour, samples in ((0, 1), (2, 3), (4, 2), (6, 4)):
        rows = [r.randbytes(2 * samples * 19) for _ in range(11)]
        file.write_bytes(png(19, 11, 16, colour, b"".join(b"\0" + row for row in rows)))
        upper = [bytes(row[2 * (samples * x + (c if samples > 2 else 0))] for x in range(19) for c in range(3)) for row in rows]
        same(run("decode", file), Image.frombytes("RGB", (19, 11), b"".join(upper)), f"colour type {colour}")


def test_interlaced_pngs(tmp_path):
    image, file = picture(29, 23, 9), tmp_path / "x.png"
    passes = b""
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        for y in range(y0, 23, dy):
            passes += b"\0" + bytes(v for x in range(x0, 29, dx) for v in image.getpixel((x, y)))
    file.write_bytes(png(29, 23, 8, 2, passes, interlace=1))
    same(run("decode", file), image, "Adam7")
    same(reference(file), image, "Pillow's Adam7")


def test_photographs():
    if not PHOTOS.is_dir():
        pytest.skip("no photographs here")
    for file in sorted(PHOTOS.iterdir()):
        want = reference(file)
        same(run("decode", file), want, file.name)
        for side in (224, 448):
            same(run("resize", file, side, side), want.resize((side, side), Image.Resampling.BICUBIC), file.name)


def encoded(kind, **options):
    out = io.BytesIO()
    picture(64, 48, 4).save(out, format=kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("raw, says", [
    (b"", "is no picture"), (b"GIF89a" + bytes(50), "is no picture"), (b"\xff\xd8\xff\xe0", "broken JPEG"),
    (encoded("JPEG")[:400], "broken JPEG"), (encoded("PNG")[:3000], "broken PNG"), (encoded("WEBP")[:900], "broken WebP"),
    (png(100000, 100000, 8, 2, b""), "100000 x 100000 pixels are more than the 100 million"),
    (png(2**31 - 1, 2**31 - 1, 8, 2, b""), "broken PNG"), (png(0, 5, 8, 2, b""), "broken PNG"),
    (png(64, 48, 8, 2, b"\0" * 50), "broken PNG"), (png(4, 4, 8, 7, b""), "broken PNG"),
    (encoded("JPEG").replace(b"\xff\xc0\x00\x11\x08\x00\x30\x00\x40", b"\xff\xc0\x00\x11\x08\xff\xdc\xff\xdc"), "65500 x 65500 pixels"),
])
def test_what_is_broken_is_one_clear_line(tmp_path, raw, says):
    file = tmp_path / "bad.img"
    file.write_bytes(raw)
    line = run("decode", file)
    assert isinstance(line, str) and says in line and "bad.img" in line and "\n" not in line, line


def test_an_animation_is_refused(tmp_path):
    file = tmp_path / "moving.webp"
    picture(16, 16, 1).save(file, save_all=True, append_images=[picture(16, 16, 2)])
    assert "is an animation" in run("decode", file)
