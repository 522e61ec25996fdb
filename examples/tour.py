# SPDX-License-Identifier: Apache-2.0
import numpy as np
import switchyard as sy

engine = sy.Engine()
weights = np.random.default_rng(0).standard_normal((1024, 1024), np.float32)

q = engine.quantize(weights, "mlx_affine4")          # the bytes that MLX writes
fit = engine.kmeans(weights, 32, seed=1)             # the same bits on every backend
heads = weights.reshape(1, 8, 128, 1024)[..., :64]   # strided views are read in place
out = engine.attention(heads, heads, heads, causal=True)

why = engine.explain("kmeans.step", n=1024, d=1024, k=32)
print(q.codes.shape, fit.inertia, out.shape, why["chosen"], why["rule"])
