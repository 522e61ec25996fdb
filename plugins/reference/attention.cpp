// SPDX-License-Identifier: Apache-2.0
/// Attention in f64, one query row after another: what every other backend is compared with.
#include <switchyard/ops/attention.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <failure.hpp>

#include "kernels.hpp"

namespace switchyard::reference {
namespace {

using cpu::Context;
using cpu::KernelDef;

const double kInfinity = HUGE_VAL;

struct F32 {
  static constexpr std::int64_t kSize = 4;
  static constexpr int kDigits = 24,
                       kLeast = -126;  // of the significand; exponent of normal numbers
};
struct F16 {
  static constexpr std::int64_t kSize = 2;
  static constexpr int kDigits = 11, kLeast = -14;
};
struct BF16 {
  static constexpr std::int64_t kSize = 2;
  static constexpr int kDigits = 8, kLeast = -126;
};

/// An element as f64; conversions are exact.
template <class T>
double load(const char *p) {
  if constexpr (T::kSize == 4) {
    float x;
    std::memcpy(&x, p, sizeof x);
    return static_cast<double>(x);
  } else {
    std::uint16_t h;
    std::memcpy(&h, p, sizeof h);
    if constexpr (T::kDigits == 8) return std::bit_cast<float>(std::uint32_t{h} << 16);
    const std::uint32_t sign = (h & 0x8000u) << 16, bits = (h & 0x7FFFu) << 13;
    if (bits >= 0x7C00u << 13) return std::bit_cast<float>(sign | 0x7F800000u | bits);
    return static_cast<double>(std::bit_cast<float>(sign | bits)) * 0x1p112;  // rebias, exactly
  }
}

/// The only rounding: to T's digits (nearest, ties to even), from where the value fits exactly.
template <class T>
void store(char *p, double x) {
  if constexpr (T::kSize == 4) {
    const auto f = static_cast<float>(x);
    std::memcpy(p, &f, sizeof f);
    return;
  }
  if (std::isfinite(x) && x != 0) {
    const int exponent = std::ilogb(x) < T::kLeast ? T::kLeast : std::ilogb(x);
    const int last = exponent - (T::kDigits - 1);
    x = std::ldexp(std::nearbyint(std::ldexp(x, -last)), last);
  }
  std::uint16_t h;
  if constexpr (T::kDigits == 8) {
    const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(x));
    h = static_cast<std::uint16_t>(bits >> 16 | (std::isnan(x) ? 0x40u : 0u));
  } else {
    const auto sign = static_cast<std::uint16_t>(std::signbit(x) ? 0x8000u : 0u);
    const double size = std::fabs(x);
    if (std::isnan(x)) {
      h = static_cast<std::uint16_t>(sign | 0x7E00u);
    } else if (size >= 65536) {
      h = static_cast<std::uint16_t>(sign | 0x7C00u);
    } else if (size < 0x1p-14) {
      h = static_cast<std::uint16_t>(sign | static_cast<std::uint16_t>(size * 0x1p24));
    } else {
      const auto bits = std::bit_cast<std::uint32_t>(static_cast<float>(size));
      h = static_cast<std::uint16_t>(sign |
                                     static_cast<std::uint16_t>((bits >> 13) - (112u << 10)));
    }
  }
  std::memcpy(p, &h, sizeof h);
}

char *base(const sy_tensor &t) { return static_cast<char *>(t.handle) + t.byte_offset; }

/// The first element of row (b, h, i).
template <class T>
char *row_of(const sy_tensor &t, std::int64_t b, std::int64_t h, std::int64_t i) {
  return base(t) + T::kSize * (b * t.strides[0] + h * t.strides[1] + i * t.strides[2]);
}

/// What the mask adds to a score; -infinity hides the key.
double mask_at(const sy_tensor &m, std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
  const std::int64_t offset =
      b * m.strides[0] + h * m.strides[1] + i * m.strides[2] + j * m.strides[3];
  const char *p = base(m) + offset * (m.dtype.bits / 8);
  if (m.dtype.code == SY_TYPE_BOOL) return *p != 0 ? 0.0 : -kInfinity;
  if (m.dtype.code == SY_TYPE_BFLOAT) return load<BF16>(p);
  return m.dtype.bits == 16 ? load<F16>(p) : load<F32>(p);
}

double scalar_at(const sy_tensor &t, std::int64_t i) {
  return load<F32>(base(t) + F32::kSize * i * t.strides[0]);
}

struct Row {
  std::int64_t b, h, i;
};

template <class T>
class Attention {
 public:
  explicit Attention(const sy_call &call)
      : call_(call),
        p_(*static_cast<const sy_attention_params *>(call.params)),
        q_(*call.inputs[SY_ATTENTION_IN_Q]),
        k_(*call.inputs[SY_ATTENTION_IN_K]),
        v_(*call.inputs[SY_ATTENTION_IN_V]),
        mask_(input(SY_ATTENTION_IN_MASK)),
        sinks_(input(SY_ATTENTION_IN_SINKS)),
        alibi_(input(SY_ATTENTION_IN_ALIBI)),
        lengths_(input(SY_ATTENTION_IN_KV_LENGTHS)),
        o_(*call.outputs[SY_ATTENTION_OUT_O]),
        lse_(call.n_outputs > SY_ATTENTION_OUT_LSE ? call.outputs[SY_ATTENTION_OUT_LSE] : nullptr),
        t_(static_cast<double *>(call.workspace)),
        qk_(t_ + k_.shape[2]),
        sum_(qk_ + q_.shape[3]) {}

  bool run() {
    const double rows = static_cast<double>(q_.shape[0] * q_.shape[1] * q_.shape[2]);
    double done = 0;
    for (std::int64_t b = 0; b < q_.shape[0]; ++b)
      for (std::int64_t h = 0; h < q_.shape[1]; ++h)
        for (std::int64_t i = 0; i < q_.shape[2]; ++i, ++done) {
          compute({b, h, i});
          if (call_.progress != nullptr && call_.progress(call_.progress_arg, done / rows) != 0)
            return false;
        }
    return true;
  }

 private:
  const sy_tensor *input(std::uint32_t i) const {
    return i < call_.n_inputs ? call_.inputs[i] : nullptr;
  }

  std::int64_t keys(std::int64_t b) const {
    if (lengths_ == nullptr) return k_.shape[2];
    std::int32_t n;
    std::memcpy(&n, base(*lengths_) + 4 * b * lengths_->strides[0], sizeof n);
    return n;
  }

  /// Position of query i among `keys` keys.
  std::int64_t position(std::int64_t i, std::int64_t keys) const {
    return p_.causal == SY_CAUSAL_TOP_LEFT ? i : i + keys - q_.shape[2];
  }

  bool visible(std::int64_t at, std::int64_t j) const {
    if (p_.causal != SY_CAUSAL_NONE && j > at) return false;
    if (p_.window_left >= 0 && at - j > p_.window_left) return false;
    return p_.window_right < 0 || j - at <= p_.window_right;
  }

  /// t(i, j), or -infinity where key j is hidden; k is read only where it is visible.
  double score(const Row &r, std::int64_t at, std::int64_t j) const {
    if (!visible(at, j)) return -kInfinity;
    const double bias = mask_ != nullptr ? mask_at(*mask_, r.b, r.h, r.i, j) : 0.0;
    if (bias == -kInfinity) return bias;
    const char *k = row_of<T>(k_, r.b, r.h / (q_.shape[1] / k_.shape[1]), j);
    double dot = 0;
    for (std::int64_t e = 0; e < q_.shape[3]; ++e)
      dot += qk_[e] * load<T>(k + T::kSize * e * k_.strides[3]);
    double t = dot * static_cast<double>(p_.scale);
    if (p_.softcap > 0) {
      const auto cap = static_cast<double>(p_.softcap);
      t = cap * std::tanh(t / cap);
    }
    if (alibi_ != nullptr) t += scalar_at(*alibi_, r.h) * static_cast<double>(j - at);
    return t + bias;
  }

  void compute(const Row &r) const {
    const std::int64_t n = keys(r.b), at = position(r.i, n);
    const char *q = row_of<T>(q_, r.b, r.h, r.i);
    for (std::int64_t e = 0; e < q_.shape[3]; ++e)
      qk_[e] = load<T>(q + T::kSize * e * q_.strides[3]);
    double max = -kInfinity;
    bool poisoned = false;  // a visible score is NaN or +infinity
    for (std::int64_t j = 0; j < n; ++j) {
      t_[j] = score(r, at, j);
      poisoned = poisoned || std::isnan(t_[j]) || t_[j] == kInfinity;
      max = t_[j] > max ? t_[j] : max;
    }
    const bool nothing = max == -kInfinity && !poisoned;
    if (sinks_ != nullptr) {
      const double sink = scalar_at(*sinks_, r.h);
      poisoned = poisoned || (!nothing && (std::isnan(sink) || sink == kInfinity));
      max = sink > max || nothing ? sink : max;
    }
    const double denominator = add_values(r, n, max, nothing || poisoned);
    write(r, denominator, max, nothing, poisoned);
  }

  /// sum_ = sum_j exp(t - max) v_j; the answer is the softmax's denominator.
  double add_values(const Row &r, std::int64_t n, double max, bool skip) const {
    double denominator = 0;
    for (std::int64_t e = 0; e < v_.shape[3]; ++e) sum_[e] = 0;
    for (std::int64_t j = 0; j < n && !skip; ++j) {
      if (t_[j] == -kInfinity) continue;
      const double p = std::exp(t_[j] - max);
      denominator += p;
      const char *v = row_of<T>(v_, r.b, r.h / (q_.shape[1] / k_.shape[1]), j);
      for (std::int64_t e = 0; e < v_.shape[3]; ++e)
        sum_[e] += p * load<T>(v + T::kSize * e * v_.strides[3]);
    }
    if (sinks_ != nullptr && max != -kInfinity)
      denominator += std::exp(scalar_at(*sinks_, r.h) - max);
    return denominator;
  }

  void write(const Row &r, double denominator, double max, bool nothing, bool poisoned) const {
    char *o = row_of<T>(o_, r.b, r.h, r.i);
    for (std::int64_t e = 0; e < v_.shape[3]; ++e) {
      const double x = poisoned ? std::nan("") : nothing ? 0.0 : sum_[e] / denominator;
      store<T>(o + T::kSize * e * o_.strides[3], x);
    }
    if (lse_ == nullptr) return;
    const double x = poisoned ? std::nan("") : nothing ? max : max + std::log(denominator);
    store<F32>(row_of<F32>(*lse_, r.b, r.h, r.i), x);
  }

  const sy_call &call_;
  const sy_attention_params &p_;
  const sy_tensor &q_, &k_, &v_;
  const sy_tensor *mask_, *sinks_, *alibi_, *lengths_;
  const sy_tensor &o_;
  const sy_tensor *lse_;
  double *t_;    // [Lkv] scores of a row
  double *qk_;   // [Dk] the row's query
  double *sum_;  // [Dv]
};

std::int32_t supports(const KernelDef &, const Context &, const sy_call &call, sy_error *reason) {
  for (std::uint32_t i = 0; i < call.n_inputs; ++i)
    if (call.inputs[i] != nullptr && call.inputs[i]->device_kind != SY_DEVICE_HOST)
      return cpu::failure(reason, SY_E_UNSUPPORTED, "a tensor is not in host memory");
  return SY_OK;
}

std::uint64_t estimate(const KernelDef &, const Context &, const sy_call &call) {
  const sy_tensor &q = *call.inputs[SY_ATTENTION_IN_Q], &v = *call.inputs[SY_ATTENTION_IN_V];
  const double scores = static_cast<double>(q.shape[0] * q.shape[1]) *
                        static_cast<double>(q.shape[2]) * static_cast<double>(v.shape[2]);
  return static_cast<std::uint64_t>(1000 + scores * static_cast<double>(q.shape[3] + v.shape[3]));
}

std::uint64_t workspace_size(const KernelDef &, const Context &, const sy_call &call) {
  const sy_tensor &k = *call.inputs[SY_ATTENTION_IN_K], &v = *call.inputs[SY_ATTENTION_IN_V];
  return sizeof(double) * static_cast<std::uint64_t>(k.shape[2] + k.shape[3] + v.shape[3]);
}

std::int32_t run(const KernelDef &, const Context &, const sy_call &call, sy_error *error) {
  const sy_dtype type = call.inputs[SY_ATTENTION_IN_Q]->dtype;
  const bool finished = type.code == SY_TYPE_BFLOAT ? Attention<BF16>(call).run()
                        : type.bits == 16           ? Attention<F16>(call).run()
                                                    : Attention<F32>(call).run();
  return finished ? SY_OK : cpu::failure(error, SY_E_CANCELLED, "cancelled by the progress hook");
}

const KernelDef kKernels[] = {{SY_OP_ATTENTION, "attention.any_any.naive", "attention.reference",
                               SY_TRAIT_BIT_EXACT | SY_TRAIT_DETERMINISTIC, nullptr, supports,
                               estimate, workspace_size, run, nullptr, nullptr}};

}  // namespace

cpu::KernelList attention_kernels() noexcept { return {kKernels, 1}; }

}  // namespace switchyard::reference
