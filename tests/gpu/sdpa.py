# SPDX-License-Identifier: Apache-2.0
"""PyTorch's scaled_dot_product_attention on the shapes that gpu_bench measures."""

import torch


def best_ms(run):
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    best = float("inf")
    for i in range(12):
        begin.record()
        run()
        end.record()
        end.synchronize()
        if i >= 2:
            best = min(best, begin.elapsed_time(end))
    return best


def tensors(batch, queries, keys):
    make = lambda heads, length: torch.randn(batch, heads, length, 128, device="cuda", dtype=torch.bfloat16)
    return make(32, queries), make(8, keys), make(8, keys)


attend = torch.nn.functional.scaled_dot_product_attention
q, k, v = tensors(1, 4096, 4096)
prefill = best_ms(lambda: attend(q, k, v, is_causal=True, enable_gqa=True))
print(f"torch {torch.__version__} prefill: {4 * 32 * 128 * 4096 * 4097 / 2 / prefill * 1e-9:.0f} TFLOP/s")
q, k, v = tensors(16, 1, 8192)
decode = best_ms(lambda: attend(q, k, v, enable_gqa=True))
print(f"torch {torch.__version__} decode: {16 * 8 * 8192 * 128 * 4 / decode * 1e-6:.0f} GB/s")
