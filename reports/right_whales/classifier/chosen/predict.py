"""What is on these images? python predict.py IMAGE...

Needs onnxruntime, numpy and pillow (requirements.txt), nothing else. Prepares images and runs
the model exactly as when the numbers in README.md were measured.
"""

import base64
import json
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).parent
RANGES = []  # of the images of 16 or 32 bits so far: the largest number of each
CLASSES = json.loads((HERE / "classes.json").read_text("utf-8"))
MODEL = json.loads((HERE / "model.json").read_text("utf-8"))
REFERENCE = json.loads((HERE / "reference.json").read_text("utf-8"))
SIZE = (MODEL["width"], MODEL["height"])
OUTPUTS = {"logits": 0}  # by name, their place among the file's


def load():
    """A function: float32 (1, 3, height, width), from `prepare`, to the outputs by name, (1, …)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = MODEL["threads"]
    options.add_session_config_entry("session.set_denormal_as_zero", "1")
    session = onnxruntime.InferenceSession(
        HERE / MODEL["file"], options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    ask = lambda image: session.run(None, {name: image})

    def run(image):
        given = ask(image)
        return {name: given[place] for name, place in OUTPUTS.items()}

    return run


class Unreadable(Exception):
    """A file that is no image."""


def decoded(path):
    """An image file, upright."""
    try:
        with Image.open(path) as file:
            file.draft("RGB", (2 * SIZE[0], 2 * SIZE[1]))  # a large JPEG is decoded smaller
            deep = any(";16" in str(part[3]) for part in file.tile)
            file.load()
            if deep and file.mode in ("LA", "RGB", "RGBA"):  # of 16 bits the upper 8 are read
                colours = file.getextrema()[: 1 if file.mode == "LA" else 3]
                if 0 < max(high for _, high in colours) < 16:
                    raise ValueError("its colours use the lower 12 of 16 bits: save it with 8")
            with suppress(Exception):  # EXIF that no camera should have written
                ImageOps.exif_transpose(file, in_place=True)
        return eight_bits(file) if file.mode[0] in "IF" else file
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise Unreadable(f"{path} cannot be read as an image: {error}") from error


def prepare(path):
    """An image file as float32 (1, 3, height, width)."""
    image = decoded(path)
    if image.mode != "RGB":
        image = image.convert("RGB")
    if image.size != SIZE:
        if MODEL["fit"] == "crop":
            image = ImageOps.fit(image, SIZE, Image.Resampling.BILINEAR)
        elif MODEL["fit"] == "letterbox":
            image = ImageOps.pad(image, SIZE, Image.Resampling.BILINEAR, (114, 114, 114))
        else:
            image = image.resize(SIZE, Image.Resampling.BILINEAR)
    return normalise(np.asarray(image))


def eight_bits(image):
    """A grey image of 16 or 32 bits as one of 8 bits, scaled by the range of its numbers."""
    values = np.asarray(image)
    high = float(values.max())
    if not (np.isfinite(values).all() and values.min() >= -0.1 * min(high, 1)):
        raise ValueError(
            f"its pixels are numbers from {values.min():g} to {high:g}: scale them to 0 to 1, or "
            "to integers from 0"
        )
    bits = max(8, -(-int(high).bit_length() // 4) * 4)  # 12 bits in a file of 16 are seen as such
    full = 1 if image.mode[0] == "F" and high <= 1.1 else 2**bits - 1
    if high > 0 and full not in RANGES:
        RANGES.append(full)
        if RANGES[1:]:
            print(
                f"{image.filename} holds numbers to {full}, as its largest value says, and images "
                f"before it to {RANGES[-2]}, so that each is made brighter or darker by its own: "
                "divide all by the same number, and save all with 8 bits a channel.",
                file=sys.stderr,
            )
    if image.mode[0] == "I":
        return Image.fromarray((values.astype(np.int64) >> (bits - 8)).astype(np.uint8))
    scaled = 255 * (values / np.float32(full)).clip(0, 1)
    return Image.fromarray(np.rint(scaled).astype(np.uint8))


def normalise(pixels):
    """uint8 (height, width, 3) as float32 (1, 3, height, width)."""
    # By planes: NumPy takes four times as long to repeat three numbers along the last axis.
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1)).astype(np.float32)
    planes /= 255
    planes -= np.float32(MODEL["mean"])[:, None, None]
    planes /= np.float32(MODEL["std"])[:, None, None]
    return np.ascontiguousarray(planes[None])


def reference_inputs():
    """Eight images of noise, prepared, the same on every machine."""
    noise = np.random.RandomState(0).randint(0, 256, (8, *SIZE[::-1], 3), dtype=np.uint8)
    for i, image in enumerate(noise.astype(np.int64)):
        for axis in (0, 1):
            image = sum(np.roll(image, k, axis) for k in range(4 * i + 3))
        low, high = image.min(), image.max()
        yield normalise(((image - low) * 255 // max(high - low, 1)).astype(np.uint8))


def check(run):
    """Says on stderr where this machine answers otherwise than the one the model was judged on."""
    given = [run(image) for image in reference_inputs()]
    now = {name: np.concatenate([x[name] for x in given]) for name in OUTPUTS}
    stored = {}
    for name, kept in REFERENCE["outputs"].items():
        steps = np.frombuffer(base64.b64decode(kept["answers"]), "<u2").reshape(now[name].shape)
        stored[name] = kept["low"] + steps * ((kept["high"] - kept["low"]) / 65535)
    others = int((stored["logits"][np.arange(8), now["logits"].argmax(1)] < stored["logits"].max(1)).sum())
    shares = [np.abs(now[name] - x).max() / (x.std() + 1e-12) for name, x in stored.items()]
    share = np.max(shares)
    same = all(np.abs(now[name] - x).max() <= np.ptp(x) / 65535 for name, x in stored.items())
    if not same and (others or not share <= 0.01):
        told = f"{others} of 8 reference inputs get another answer, " if others else ""
        print(
            "This machine answers otherwise than the one this model was judged on "
            f"({REFERENCE['judged_on']}): {told}"
            f"outputs differ by {100 * share:.3g} % of their standard deviation. Judge it anew here, or "
            "make it again: int8 made with portable: true answers alike on all machines.",
            file=sys.stderr,
        )


if __name__ == "__main__":
    run = load()
    check(run)
    failed = False
    for path in sys.argv[1:]:
        try:
            logits = run(prepare(path))["logits"][0]
            odds = np.exp(logits - logits.max())
            print(path)
            for i in np.argsort(-odds, kind="stable")[:5]:
                print(f"{odds[i] / odds.sum():9.1%}  {CLASSES[i]}")

        except Unreadable as error:
            print(error, file=sys.stderr)
            failed = True
    if failed:
        sys.exit(2)
