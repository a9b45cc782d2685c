"""Binary convolution written down on its own: exclusive or and population count on packed words."""

import numpy as np

WORD = 64  # bits


def pack_words(signs: np.ndarray) -> np.ndarray:
    """bool (n, channels, height, width) as uint64 (n, height, width, words).

    Channel c is bit c % 64 of word c // 64; the rest of the last word is zero.
    """
    n, channels, height, width = signs.shape
    words = np.zeros((n, height, width, -(-channels // WORD)), np.uint64)
    for channel in range(channels):
        bit = signs[:, channel].astype(np.uint64) << np.uint64(channel % WORD)
        words[..., channel // WORD] |= bit
    return words


def convolve(
    activations: np.ndarray,
    weights: np.ndarray,
    strides: tuple[int, int],
    pads_begin: tuple[int, int],
    pads_end: tuple[int, int],
) -> np.ndarray:
    """Sums of products of signs, int64 (n, out, height, width); what is padded adds nothing.

    Over c channels, signs that differ d times have products that sum to c - 2 d.

    Args:
        activations: bool (n, channels, height, width), True for +1.
        weights: bool (out, channels, height, width), True for +1.
        strides, pads_begin, pads_end: vertical, horizontal.
    """
    sizes, kernel = activations.shape[2:], weights.shape[2:]
    images, filters = pack_words(activations), pack_words(weights)
    outputs = [
        (sizes[i] + pads_begin[i] + pads_end[i] - kernel[i]) // strides[i] + 1 for i in (0, 1)
    ]
    sums = np.zeros((len(images), len(filters), *outputs), np.int64)
    for tap in np.ndindex(*kernel):
        # Where this tap of the filters meets the images: elsewhere it lies on padding.
        y, x = (np.arange(outputs[i]) * strides[i] + tap[i] - pads_begin[i] for i in (0, 1))
        rows, columns = ((at >= 0) & (at < size) for at, size in zip((y, x), sizes, strict=True))
        seen = images[:, None, y[rows]][:, :, :, x[columns]]
        differ = np.bitwise_count(seen ^ filters[None, :, *tap, None, None]).sum(-1, dtype=np.int64)
        sums[:, :, *np.ix_(rows, columns)] += activations.shape[1] - 2 * differ
    return sums


def unpack_bits(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """bool of `shape`: number i, in C order, is the bit of byte i // 8 that is worth 2^(i % 8)."""
    bits = [int(packed[i // 8]) // 2 ** (i % 8) % 2 == 1 for i in range(int(np.prod(shape)))]
    return np.array(bits, bool).reshape(shape)
