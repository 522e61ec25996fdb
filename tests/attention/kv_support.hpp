// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Tokens for caches, and what attention over them is in f64.

#include <cmath>
#include <cstring>
#include <functional>
#include <switchyard/kv_cache.hpp>

#include "io/cast.hpp"
#include "support/engine_support.hpp"

namespace switchyard::testing {

/// Queries, keys and values of n positions, [B, heads, n, D] of one dtype.
struct Tokens {
  Tensor q, k, v;
  std::int64_t n;
};

inline Tensor random_array(std::array<std::int64_t, 4> shape, DType dtype, std::uint64_t seed) {
  Tensor f = *Tensor::empty(dtypes::f32, shape);
  std::uint64_t state = seed * 0x9E3779B97F4A7C15ull + 1;
  for (std::int64_t i = 0; i < f.elements(); ++i) {
    float sum = 0;
    for (int j = 0; j < 4; ++j) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      sum += static_cast<float>(state >> 40) * 0x1p-24f;
    }
    f.data<float>()[i] = (sum - 2.0f) * 1.7320508f;
  }
  return same(dtype, dtypes::f32) ? std::move(f) : *cast(f, dtype);
}

inline Tokens make_tokens(const KVCacheOptions &o, std::int64_t q_heads, std::int64_t n,
                          std::uint64_t seed = 1) {
  const std::int64_t dv = o.value_dim > 0 ? o.value_dim : o.head_dim;
  return {random_array({o.batch, q_heads, n, o.head_dim}, o.dtype, seed * 3),
          random_array({o.batch, o.kv_heads, n, o.head_dim}, o.dtype, seed * 3 + 1),
          random_array({o.batch, o.kv_heads, n, dv}, o.dtype, seed * 3 + 2), n};
}

/// Entries begin..begin+count-1 of the positions.
inline TensorView part(const TensorView &t, std::int64_t begin, std::int64_t count) {
  sy_tensor raw = t.raw();
  raw.byte_offset += static_cast<std::uint64_t>(begin * raw.strides[2]) * size_of(raw.dtype);
  raw.shape[2] = count;
  return TensorView(raw);
}

/// What a cache of this format makes of keys or values: f64.
inline Tensor as_kept(Engine &engine, const KVCacheOptions &o, const TensorView &x) {
  if (o.format == KVFormat::plain) return *cast(x, dtypes::f64);
  QuantizeOptions options;
  options.format = o.format == KVFormat::q8 ? "q8_0" : "mlx_affine4";
  const std::int64_t dv = o.value_dim > 0 ? o.value_dim : o.head_dim;
  if (o.format == KVFormat::q4) options.group_size = o.head_dim % 64 + dv % 64 == 0 ? 64 : 32;
  Quantized q = *engine.quantize(x, options);
  if (o.format == KVFormat::q8) q.dtype = dtypes::f32;  // a code times its scale, exactly
  return *cast(*engine.dequantize(q), dtypes::f64);
}

/// Does the query at a position see the key at another?
using Sees = std::function<bool(std::int64_t query, std::int64_t key)>;

/// Softmax attention of query position p in f64: [B, Hq, Dv] flat, and sum_j p_j |v_j|.
struct Exact {
  std::vector<double> o, scale;
};
inline Exact exact_row(const Tokens &t, const Tensor &k64, const Tensor &v64, std::int64_t p,
                       const Sees &sees) {
  const Tensor q = *cast(part(t.q, p, 1), dtypes::f64);
  const std::int64_t batch = t.q.shape()[0], hq = t.q.shape()[1], d = t.q.shape()[3],
                     hkv = k64.shape()[1], n = k64.shape()[2], dv = v64.shape()[3];
  Exact out;
  std::vector<double> w(static_cast<std::size_t>(n));
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t h = 0; h < hq; ++h) {
      const std::int64_t g = b * hkv + h / (hq / hkv);
      double most = -HUGE_VAL, sum = 0;
      for (std::int64_t j = 0; j < n; ++j) {
        double dot = -HUGE_VAL;
        if (sees(p, j)) {
          dot = 0;
          for (std::int64_t e = 0; e < d; ++e)
            dot += q.data<double>()[(b * hq + h) * d + e] * k64.data<double>()[(g * n + j) * d + e];
          dot /= std::sqrt(static_cast<double>(d));
        }
        w[static_cast<std::size_t>(j)] = dot;
        most = std::max(most, dot);
      }
      for (double &x : w) sum += x = std::exp(x - most);
      for (std::int64_t e = 0; e < dv; ++e) {
        double o = 0, scale = 0;
        for (std::int64_t j = 0; j < n; ++j) {
          const double x = w[static_cast<std::size_t>(j)] / sum;
          o += x * v64.data<double>()[(g * n + j) * dv + e];
          scale += x * std::abs(v64.data<double>()[(g * n + j) * dv + e]);
        }
        out.o.push_back(o);
        out.scale.push_back(scale);
      }
    }
  return out;
}

/// The largest |got - exact| / (sum p |v|), relative to what the dtype's kernels may do (with a
/// margin for scores of these tokens' size): at most 1 is right.
inline double error_of(const TensorView &got, std::int64_t row, const Exact &want) {
  const Tensor o = *cast(part(got, row, 1), dtypes::f64);
  const double limit = same(got.dtype(), dtypes::f32)   ? 4e-6
                       : same(got.dtype(), dtypes::f16) ? 1e-3
                                                        : 8e-3;
  double worst = 0;
  for (std::size_t i = 0; i < want.o.size(); ++i) {
    const double gap = std::abs(o.data<double>()[i] - want.o[i]);
    worst = std::max(worst, std::isnan(gap) ? HUGE_VAL : gap / (limit * 2 * want.scale[i]));
  }
  return worst;
}

inline KVCache make_cache(Engine &engine, const KVCacheOptions &options) {
  auto cache = KVCache::create(engine, options);
  if (!cache) {
    ADD_FAILURE() << cache.error().text();
    std::abort();
  }
  return std::move(*cache);
}

/// Queries and keys of positions begin.., in chunks of `chunk`; all outputs, [B, Hq, count, Dv].
inline Tensor run_through(KVCache &cache, const Tokens &t, std::int64_t begin, std::int64_t count,
                          std::int64_t chunk, const AttentionCall &options = {}) {
  Tensor all = *Tensor::zeros(t.q.dtype(),
                              std::array{t.q.shape()[0], t.q.shape()[1], count, t.v.shape()[3]});
  for (std::int64_t done = 0; done < count; done += chunk) {
    const std::int64_t n = std::min(chunk, count - done);
    AttentionCall o = options;
    o.out = part(all, done, n);
    const auto result = cache.update(part(t.q, begin + done, n), part(t.k, begin + done, n),
                                     part(t.v, begin + done, n), o);
    if (!result) {
      ADD_FAILURE() << result.error().text();
      break;
    }
  }
  return all;
}

}  // namespace switchyard::testing
