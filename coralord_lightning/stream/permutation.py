"""Owns the keyed permutation of [0, num_rows) that an epoch is; pure arithmetic, never knows epochs, ranks or data.

A generalised Feistel network over Z_a x Z_b with a * b >= num_rows, and cycle walking for the few values beyond: any
position is computed alone, in O(1) memory. Mixed radix stays flat for every number of rows, where a power-of-two domain
walks up to half its values. Below 2**32 rows all of it is 32-bit arithmetic, which numpy does several lanes at once.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["MAX_ROWS", "Permutation", "Rows"]

Rows = npt.NDArray[np.int64]
_Words = npt.NDArray[Any]  # uint32 or uint64

MAX_ROWS = 2**62
_ROUNDS = 6
_ROUNDS_SMALL, _SMALL = 24, 4096  # few rows need more rounds before pairs are flat, and cost nothing
_AT_ONCE = 16384  # values in one go: they and their scratch stay in the processor's cache


@dataclass(frozen=True, slots=True, kw_only=True)
class Permutation:
    """A keyed bijection of [0, num_rows) onto itself.

    Args:
        num_rows: 0 <= num_rows <= MAX_ROWS.
        keys: one 64-bit key a round.
    """

    num_rows: int
    keys: tuple[int, ...]

    @classmethod
    def keyed(cls, num_rows: int, key: str) -> Permutation:
        """The permutation that a text names."""
        rounds = _ROUNDS_SMALL if num_rows < _SMALL else _ROUNDS
        words = np.frombuffer(hashlib.shake_256(key.encode()).digest(8 * rounds), dtype="<u8")
        return cls(num_rows=num_rows, keys=tuple(int(word) for word in words))

    def at(self, positions: Rows) -> Rows:
        """The values at these positions.

        Args:
            positions: int64, any shape, each in [0, num_rows).
        """
        word = np.uint32 if self.num_rows < 2**32 else np.uint64
        flat = positions.reshape(-1)
        values = np.empty(flat.shape, word)
        for start in range(0, len(flat), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            values[part] = self._feistel(flat[part].astype(word))
        beyond = np.flatnonzero(values >= word(self.num_rows))
        while beyond.size:
            # Every cycle through the domain comes back to a value below num_rows, so this ends.
            values[beyond] = self._feistel(values[beyond])
            beyond = beyond[values[beyond] >= word(self.num_rows)]
        return values.astype(np.int64).reshape(positions.shape)

    def _feistel(self, values: _Words) -> _Words:
        height = math.isqrt(max(self.num_rows, 1) - 1) + 1
        width = -(-max(self.num_rows, 1) // height)
        word = values.dtype.type
        draw = _draw_32 if word is np.uint32 else _draw_64
        left = values // word(width)
        right = values - left * word(width)
        drawn, spare = np.empty_like(left), np.empty_like(left)
        for number, key in enumerate(self.keys):
            if number % 2 == 0:
                draw(right, key, height, drawn, spare)
                _add_modulo(left, drawn, word(height))
            else:
                draw(left, key, width, drawn, spare)
                _add_modulo(right, drawn, word(width))
        joined: _Words = left
        joined *= word(width)
        joined += right
        return joined


def _draw_32(values: _Words, key: int, bound: int, out: _Words, spare: _Words) -> None:
    """One number in [0, bound) for each value: a 32-bit finaliser, scaled by as many upper bits as leave no overflow.

    Source: the multipliers and shifts are of the lowest bias that https://github.com/skeeto/hash-prospector found.
    """
    np.bitwise_xor(values, np.uint32(key & 0xFFFFFFFF), out=out)
    out *= np.uint32(0x7FEB352D)
    np.right_shift(out, np.uint32(15), out=spare)
    out ^= spare
    out += np.uint32(key >> 32)
    out *= np.uint32(0x846CA68B)
    bits = (bound - 1).bit_length()
    out >>= np.uint32(bits)
    out *= np.uint32(bound)
    out >>= np.uint32(32 - bits)


def _draw_64(values: _Words, key: int, bound: int, out: _Words, spare: _Words) -> None:
    """One number in [0, bound) for each value: the splitmix64 finaliser, scaled by its upper half (bound < 2**32)."""
    np.multiply(values, np.uint64(0x9E3779B97F4A7C15), out=out)
    out += np.uint64(key)
    np.right_shift(out, np.uint64(30), out=spare)
    out ^= spare
    out *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(out, np.uint64(27), out=spare)
    out ^= spare
    out *= np.uint64(0x94D049BB133111EB)
    out >>= np.uint64(32)
    out *= np.uint64(bound)
    out >>= np.uint64(32)


def _add_modulo(values: _Words, addend: _Words, bound: Any) -> None:
    """Add in place, both below the bound; the smaller of sum and wrapped difference is the remainder."""
    values += addend
    np.subtract(values, bound, out=addend)
    np.minimum(values, addend, out=values)
