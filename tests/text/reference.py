"""The order of training written down plainly, one number at a time: what the fast one is held against."""

from __future__ import annotations

_64 = (1 << 64) - 1


def mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & _64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _64
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _64
    return value ^ value >> 31


def key(seed: int, number: int, purpose: int) -> int:
    return mix((mix((seed + (purpose << 32)) & _64) + number) & _64)


def permuted(index: int, count: int, key: int) -> int:
    """Return where the keyed permutation of range(count) takes an index."""
    bits = max(6, (count - 1).bit_length())
    low_bits, high_bits = bits // 2, bits - bits // 2
    while True:
        low, high, round_key = index % (1 << low_bits), index >> low_bits, key
        for _ in range(4):
            round_key = mix(round_key)
            low ^= mix(high ^ round_key) % (1 << low_bits)
            round_key = mix(round_key)
            high ^= mix(low ^ round_key) % (1 << high_bits)
        index = high << low_bits | low
        if index < count:
            return index


def documents(shards: list[list[int]], end_of_text: int) -> list[list[int]]:
    found = []
    for shard in shards:
        document: list[int] = []
        for token in shard:
            document.append(token)
            if token == end_of_text:
                found.append(document)
                document = []
        found += [document] if document else []
    return found


def windows(
    shards: list[list[int]],
    seq_len: int,
    seed: int,
    size: int,
    random_offsets: bool = False,
    end_of_text: int | None = None,
) -> list[list[int]]:
    """Return the first `size` windows of the stream, each seq_len + 1 tokens."""
    rows: list[list[int]] = []
    epoch = 0
    while len(rows) < size:
        texts = shards
        if end_of_text is not None:
            parts = documents(shards, end_of_text)
            order = [permuted(i, len(parts), key(seed, epoch, 2)) for i in range(len(parts))]
            texts = [[token for number in order for token in parts[number]]]
        offset = key(seed, epoch, 1) % seq_len if random_offsets else 0
        lost = seq_len - 1 if random_offsets else 0
        cut = []
        for text in texts:
            for start in range(0, len(text) - lost - seq_len, seq_len):
                cut.append(text[start + offset : start + offset + seq_len + 1])
        rows += [cut[permuted(i, len(cut), key(seed, epoch, 0))] for i in range(len(cut))]
        epoch += 1
    return rows[:size]


def mixture(counts: list[int], seed: int, size: int) -> list[tuple[int, int]]:
    """Return of the first `size` positions the corpus and the how-manieth of its windows, `counts` of each a block."""
    taken = [0] * len(counts)
    found: list[tuple[int, int]] = []
    block = 0
    slots = [corpus for corpus, count in enumerate(counts) for _ in range(count)]
    while len(found) < size:
        for index in range(len(slots)):
            corpus = slots[permuted(index, len(slots), key(seed, block, 3))]
            found.append((corpus, taken[corpus]))
            taken[corpus] += 1
        block += 1
    return found[:size]
