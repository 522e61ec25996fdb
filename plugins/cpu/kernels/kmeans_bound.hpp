// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The threshold that decides which centroids a fast score rules out. docs/kmeans.md derives it.
///
/// All in a frame shifted by some vector mu: x' = fl(x - mu), c' = fl(c - mu). A score is any f32
/// evaluation of |c - mu|^2 / 2 - <x', c'>, where the norm was rounded once from a double and the
/// products and sums were rounded at most `roundings` times along any path. Let D be the canonical
/// distance of x to some centroid. Then every centroid whose canonical distance is at most D has a
/// score of at most threshold(D, N), N >= 0 being the f32 evaluation of |x'|^2 in chains of at most
/// ceil(d/4) + 4 roundings.
///
/// Plain functions without library calls: kernels and tests share them.

namespace switchyard::cpu {

struct KMeansBound {
  float a, b, eg, eh;  ///< threshold = D a - N b + sqrt(N + tiny) eg + eh
  float tiny;          ///< an upper bound of everything that underflow loses
  bool usable;         ///< false: magnitudes or d too large; rule nothing out

  /// Rows with a larger N must not be filtered.
  static constexpr float kLargestNorm = 0x1p120f;
};

/// `largest_norm` >= max_j |c_j - mu|, rounded up; d + 1 roundings suffice for a chain of fused
/// multiply-adds that starts from the norm.
static inline KMeansBound kmeans_bound(long long d, double largest_norm, long long roundings) {
  const double u = 0x1p-24, up = 1 + 0x1p-20;
  const auto gamma = [&](double n) { return n * u / (1 - n * u); };
  const double columns = static_cast<double>(d);
  KMeansBound bound{0, 0, 0, 0, 0, d <= (1 << 20) && largest_norm <= 0x1p60};
  if (!bound.usable) return bound;
  const double theta = gamma(static_cast<double>((d + 15) / 16) + 6);
  const double gamma_norm = gamma(static_cast<double>((d + 3) / 4) + 8);
  const double gamma_score = gamma(static_cast<double>(roundings) + 3);
  const double half = largest_norm * largest_norm / 2 * up;
  // 8 u and up absorb the roundings of evaluating the threshold itself in f32.
  bound.tiny = static_cast<float>((columns + 32) * 0x1p-125 * up);
  bound.a = static_cast<float>((0.5 / (1 - theta) + 8 * u) * up);
  bound.b = static_cast<float>((0.5 * (1 - gamma_norm) - 8 * u) / up);
  bound.eg = static_cast<float>(gamma_score * largest_norm * (1 + gamma_norm) * up);
  bound.eh =
      static_cast<float>(((gamma_score + u) * half + 4 * static_cast<double>(bound.tiny)) * up);
  return bound;
}

}  // namespace switchyard::cpu
