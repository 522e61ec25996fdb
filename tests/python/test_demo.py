# SPDX-License-Identifier: Apache-2.0
"""The demo compares against NumPy: what it compares with must be right."""

import pathlib
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "apps/demo"))

import numpy_peers  # noqa: E402
import tokens  # noqa: E402


@pytest.fixture(scope="module")
def matrix():
    return np.random.default_rng(5).normal(size=(48, 256)).astype(np.float32)


def test_affine_codes_equal_switchyards(engine, matrix):
    codes, scales, biases = numpy_peers.mlx_affine4(matrix)
    q = engine.quantize(matrix, "mlx_affine4")
    np.testing.assert_array_equal(codes, q.codes)
    np.testing.assert_array_equal(scales, q.scales)
    np.testing.assert_array_equal(biases, q.biases)


def test_ternary_codes_equal_switchyards(engine, matrix):
    codes, scale = numpy_peers.ternary(matrix)
    q = engine.quantize(matrix, "ternary")
    # The order of the mean's sum may move its last bit, and a code on the edge with it.
    assert (codes == q.codes).mean() > 0.9999
    assert scale == pytest.approx(float(np.ravel(q.scales)[0]), rel=1e-6)


def test_attention_agrees(engine):
    rng = np.random.default_rng(6)
    q, k, v = (rng.normal(size=(2, 3, 40, 16)).astype(np.float32) for _ in range(3))
    np.testing.assert_allclose(
        numpy_peers.attention(q, k, v), engine.attention(q, k, v), rtol=1e-4, atol=1e-5
    )


def test_kmeans_finds_separate_clusters():
    rng = np.random.default_rng(7)
    centres = np.array([[0, 0], [10, 0], [0, 10]], dtype=np.float32)
    x = np.repeat(centres, 50, axis=0) + rng.normal(0, 0.1, size=(150, 2)).astype(np.float32)
    labels, found, inertia = numpy_peers.kmeans(x, 3, 10)
    assert len({int(part[0]) for part in labels.reshape(3, 50)}) == 3
    assert all((part == part[0]).all() for part in labels.reshape(3, 50))
    assert inertia < 150 * 2 * 0.1**2 * 2
    assert found.shape == (3, 2)


def test_word_pieces_are_the_longest_known_ones():
    vocabulary = {p: i for i, p in enumerate(["[UNK]", "[CLS]", "[SEP]", "un", "##affable",
                                              "##aff", "the", ",", "cafe"])}
    assert tokens.tokenize("The unaffable, Café", vocabulary) == [6, 3, 4, 7, 8]
    assert tokens.tokenize("zzz", vocabulary) == [0]
    assert tokens.windows([6, 7, 6, 7], 4, 2, vocabulary) == [[1, 6, 7, 2], [1, 6, 7, 2]]
    with pytest.raises(ValueError, match="tokens"):
        tokens.windows([6], 4, 2, vocabulary)


def test_the_text_is_there():
    text = (ROOT / "apps/demo/genesis.txt").read_text(encoding="utf-8")
    assert "In the beginning God created the heaven and the earth." in text
    assert len(text) > 30000
