"""Bytes changed at random, as a failing disk, a wrong program or a malicious person might.

changed = mutated(rng, [b'{"step": 1}', b'{"step": 2}'])
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

# What parsers stumble over: ends of strings and lists, numbers too large, half a character, other encodings, escapes.
MORSELS = (
    *(b"\0", b'"', b"'", b"\\", b"{", b"}", b"[", b"]", b",", b":", b"=", b"\n", b"\r", b"\r\n", b"\t", b"#", b";"),
    *(
        b"NaN",
        b"Infinity",
        b"-Infinity",
        b"null",
        b"true",
        b"1e999",
        b"-1",
        b"0",
        b"9" * 30,
        b"9" * 400,
        b"-0.0",
        b"1_0",
    ),
    *(
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\xc3",
        b"\xf4\x90\x80\x80",
        b"\xe2\x80\xae",
        b"\\ud800",
        b"\\u0000",
    ),
    *(b"\x1b]0;owned\x07", b"\x1b[2J", b"\x9b31m", b"\x80" * 8, b"\xff" * 8, b"\x7f\xff\xff\xff", b"A" * 3000),
    *(b"[" * 600, b'{"a":' * 600, b"\n" * 300, b'"""', b"../../", b"[[a]]", b"2" * 20 + b"-01-01T00:00:00Z"),
)
MOST_CHANGES = 6
MOST_BYTES = 1 << 20


def mutated(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of the seeds after a few changes."""
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.randint(1, MOST_CHANGES)):
        rng.choice(CHANGES)(rng, data, seeds)
    return bytes(data[:MOST_BYTES])


def _place(rng: random.Random, data: bytearray) -> int:
    return rng.randint(0, len(data))


def _stretch(rng: random.Random, data: bytearray) -> slice:
    start = _place(rng, data)
    return slice(start, min(len(data), start + int(rng.expovariate(1 / 20)) + 1))


def _flip(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _replace(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    data[_stretch(rng, data)] = rng.choice(MORSELS)


def _insert(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    place = _place(rng, data)
    data[place:place] = rng.choice(MORSELS)


def _noise(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    data[_stretch(rng, data)] = rng.randbytes(rng.randint(0, 30))


def _remove(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    del data[_stretch(rng, data)]


def _truncate(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    del data[_place(rng, data) :]


def _repeat(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    place = _place(rng, data)
    data[place:place] = bytes(data[_stretch(rng, data)]) * rng.choice((1, 2, 50))


def _splice(rng: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    other = rng.choice(seeds)
    data[_place(rng, data) :] = other[rng.randint(0, len(other)) :]


Change = Callable[[random.Random, bytearray, Sequence[bytes]], None]
CHANGES: tuple[Change, ...] = (_flip, _replace, _insert, _noise, _remove, _truncate, _repeat, _splice)
