"""Reads a logit tape with numpy alone, and tells what is on it.

    python tests/second_opinion/tape.py answers.lftape            a line per block
    python tests/second_opinion/tape.py --check answers.lftape    as JSON: sums that the tests compare with their own

docs/tape.md describes the layout.
"""

import json
import struct
import sys
import zlib

import numpy as np


def frames(path):
    """Every frame: its description and its unpacked payload."""
    with open(path, "rb") as tape:
        assert tape.read(8) == b"\x93LFTAPE\n", "not a tape"
        while prefix := tape.read(20):
            tag, described, packed, crc = struct.unpack("<4sIQI", prefix)
            assert tag == b"LFTB", "damaged"
            description, payload = tape.read(described), tape.read(packed)
            assert zlib.crc32(prefix[4:16] + description + payload) == crc, "damaged"
            yield json.loads(description), zlib.decompress(payload) if payload else b""


def blocks(path):
    """The head, then every block as (text, first position, columns by name)."""
    tape = frames(path)
    yield next(tape)[0]
    for block, data in tape:
        columns = {}
        for column in block["columns"]:
            dtype, shape = np.dtype(column["dtype"]), column["shape"]
            size = dtype.itemsize * int(np.prod(shape))
            planes, data = np.frombuffer(data[:size], np.uint8), data[size:]
            columns[column["name"]] = planes.reshape(dtype.itemsize, -1).T.copy().view(dtype).reshape(shape)
        yield block["text"], block["first"], columns


def row(head, columns, source, position):
    """Log-probabilities of a source at a position; of a top-k tape the rest is spread evenly."""
    if "ids" not in columns:
        if "log_probs" in columns:
            return columns["log_probs"][source, position].astype(np.float64)
        return columns["logits"][source, position].astype(np.float64) - columns["log_normalisers"][source, position]
    width = head["vocabulary"]["width"]
    kept = slice(columns["offsets"][position], columns["offsets"][position + 1])
    missing = [id for first, last in head["vocabulary"]["missing"] for id in range(first, last + 1)]
    rest = width - len(missing) - len(columns["ids"][kept])
    out = np.full(width, columns["log_rests"][source, position] - np.log(max(rest, 1)))
    out[missing] = -np.inf
    out[columns["ids"][kept]] = columns["log_probs"][source, kept]
    return out


if __name__ == "__main__":
    head, *texts = blocks(sys.argv[-1])
    sums = {}
    for text, first, columns in texts:
        for position, token in enumerate(columns["tokens"]):
            rows = [row(head, columns, source, position) for source in range(len(head["sources"]))]
            sums.setdefault(text["id"], []).append([r[token] for r in rows] + [np.exp(r).sum() for r in rows])
        if "--check" not in sys.argv:
            print(text["id"], f"tokens {first} to {first + len(columns['tokens']) - 1}:", ", ".join(columns))
    if "--check" in sys.argv:
        print(json.dumps({id: np.array(cells).tolist() for id, cells in sums.items()}))
