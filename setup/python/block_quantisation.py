"""Matrices as small integers in blocks that share a scale, as ONNX Runtime's block-quantised operators read them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BLOCK = 32
"""Weights that share one scale."""


@dataclass(frozen=True)
class Quantised:
    """A matrix in blocks along its second axis, laid out as MatMulNBits and GatherBlockQuantized read it."""

    packed: np.ndarray
    """uint8 `[rows, blocks, bytes]`."""
    scales: np.ndarray
    """float32 `[rows * blocks]`."""
    zero_points: np.ndarray | None
    """uint8, packed like the weights; None means the middle of the range."""


def to_grid(blocks: np.ndarray, scale: np.ndarray, zero_point: np.ndarray, bits: int) -> np.ndarray:
    """Rounds to the integers `0 .. 2^bits - 1`; a block of zeros has scale 0 and becomes its zero point."""
    inverse = np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    grid = blocks * inverse
    grid += zero_point
    np.rint(grid, out=grid)
    return np.clip(grid, 0, (1 << bits) - 1, out=grid)


def in_blocks(matrix: np.ndarray) -> np.ndarray:
    rows, columns = matrix.shape
    return matrix.reshape(rows, columns // BLOCK, BLOCK)


def quantise_8bit(matrix: np.ndarray) -> Quantised:
    blocks = in_blocks(matrix)
    scale = (np.abs(blocks).max(-1, keepdims=True) / 127).astype(np.float32)
    return Quantised(to_grid(blocks, scale, np.float32(128), 8).astype(np.uint8), scale.reshape(-1), None)


def quantise_4bit(matrix: np.ndarray) -> Quantised:
    """Per block the better of a symmetric and an asymmetric grid, by squared error."""
    blocks = in_blocks(matrix)
    low = np.minimum(blocks.min(-1, keepdims=True), 0)
    high = np.maximum(blocks.max(-1, keepdims=True), 0)

    middle = np.float32(8)
    symmetric_scale = np.where(high > -low, high, low) / -8
    symmetric = to_grid(blocks, symmetric_scale, middle, 4)

    scale = (high - low) / 15
    zero_point = np.rint(np.divide(-low, scale, out=np.zeros_like(low), where=scale != 0))
    asymmetric = to_grid(blocks, scale, zero_point, 4)

    def squared_error(grid: np.ndarray, zero: np.ndarray, step: np.ndarray) -> np.ndarray:
        return (((grid - zero) * step - blocks) ** 2).sum(-1, keepdims=True)

    better = squared_error(asymmetric, zero_point, scale) < squared_error(symmetric, middle, symmetric_scale)
    grid = np.where(better, asymmetric, symmetric).astype(np.uint8)
    zeros = np.where(better, zero_point, middle).astype(np.uint8).reshape(matrix.shape[0], -1)
    if zeros.shape[1] % 2:
        zeros = np.concatenate([zeros, np.zeros((zeros.shape[0], 1), np.uint8)], 1)
    return Quantised(
        packed=pack_nibbles(grid),
        scales=np.where(better, scale, symmetric_scale).astype(np.float32).reshape(-1),
        zero_points=pack_nibbles(zeros).reshape(-1),
    )


def pack_nibbles(values: np.ndarray) -> np.ndarray:
    return values[..., 0::2] | (values[..., 1::2] << 4)
