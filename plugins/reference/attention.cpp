// SPDX-License-Identifier: Apache-2.0
/// Attention in f64, one query row after another: what every other backend is compared with.
#include <attention_params.hpp>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <failure.hpp>
#include <host_memory.hpp>

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

/// An element of f32, f16 or bf16.
double load_any(const char *p, const sy_dtype &dtype) {
  if (dtype.code == SY_TYPE_BFLOAT) return load<BF16>(p);
  return dtype.bits == 16 ? load<F16>(p) : load<F32>(p);
}

/// Rounds to f32, f16 or bf16.
double round_any(double x, const sy_dtype &dtype) {
  char p[4];
  if (dtype.code == SY_TYPE_BFLOAT) {
    store<BF16>(p, x);
  } else if (dtype.bits == 16) {
    store<F16>(p, x);
  } else {
    store<F32>(p, x);
  }
  return load_any(p, dtype);
}

/// What the mask adds to a score; -infinity hides the key.
double mask_at(const sy_tensor &m, std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t j) {
  const std::int64_t offset =
      b * m.strides[0] + h * m.strides[1] + i * m.strides[2] + j * m.strides[3];
  const char *p = base(m) + offset * (m.dtype.bits / 8);
  if (m.dtype.code == SY_TYPE_BOOL) return *p != 0 ? 0.0 : -kInfinity;
  return load_any(p, m.dtype);
}

double scalar_at(const sy_tensor &t, std::int64_t i) {
  return load<F32>(base(t) + F32::kSize * i * t.strides[0]);
}

struct Row {
  std::int64_t b, h, i;
};

/// k or v with what belongs to it: rows of values, whatever they are stored as and wherever.
struct Keys {
  const sy_tensor *codes, *scales, *biases, *table;
  std::uint32_t format, group;
  std::int64_t length;  ///< keys of a sequence at most

  /// Row j of key head g of sequence b.
  template <class T>
  void read(std::int64_t b, std::int64_t g, std::int64_t j, std::int64_t count, double *row) const {
    if (table != nullptr) {
      const std::int64_t page = codes->shape[2];
      std::int32_t entry;
      std::memcpy(&entry, base(*table) + 4 * (b * table->strides[0] + j / page * table->strides[1]),
                  sizeof entry);
      b = entry < 0 || entry >= codes->shape[0] ? 0 : entry;
      j %= page;
    }
    const auto place = [&](const sy_tensor &t) {
      return base(t) +
             (b * t.strides[0] + g * t.strides[1] + j * t.strides[2]) * (t.dtype.bits / 8);
    };
    const char *p = place(*codes);
    for (std::int64_t e = 0; e < count; ++e) {
      if (format == SY_QUANT_NONE) {
        row[e] = load<T>(p + T::kSize * e * codes->strides[3]);
      } else if (format == SY_QUANT_Q8_0) {
        const char *block = p + e / 32 * 34;
        row[e] = load<F16>(block) * static_cast<signed char>(block[2 + e % 32]);
      } else if (scales != nullptr && biases != nullptr) {
        const auto code = static_cast<unsigned char>(p[e / 2]) >> (e % 2 * 4) & 15;
        const std::int64_t at = e / group * (scales->dtype.bits / 8);
        const double product =
            round_any(code * load_any(place(*scales) + at, scales->dtype), scales->dtype);
        row[e] = round_any(product + load_any(place(*biases) + at, biases->dtype), scales->dtype);
      }
    }
  }
};

template <class T>
class Attention {
 public:
  explicit Attention(const sy_call &call)
      : call_(call),
        kv_(cpu::attention_params(call)),
        p_(kv_.base),
        q_(*call.inputs[SY_ATTENTION_IN_Q]),
        o_(*call.outputs[SY_ATTENTION_OUT_O]),
        k_(side(SY_ATTENTION_IN_K, SY_ATTENTION_IN_K_SCALES, SY_ATTENTION_IN_K_BIASES)),
        v_(side(SY_ATTENTION_IN_V, SY_ATTENTION_IN_V_SCALES, SY_ATTENTION_IN_V_BIASES)),
        mask_(input(SY_ATTENTION_IN_MASK)),
        sinks_(input(SY_ATTENTION_IN_SINKS)),
        alibi_(input(SY_ATTENTION_IN_ALIBI)),
        lengths_(input(SY_ATTENTION_IN_KV_LENGTHS)),
        lse_(call.n_outputs > SY_ATTENTION_OUT_LSE ? call.outputs[SY_ATTENTION_OUT_LSE] : nullptr),
        group_(q_.shape[1] / (k_.codes->shape[1] > 0 ? k_.codes->shape[1] : 1)),
        t_(static_cast<double *>(call.workspace)),
        qk_(t_ + k_.length),
        sum_(qk_ + q_.shape[3]),
        row_(sum_ + o_.shape[3]) {}

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
  Keys side(std::uint32_t codes, std::uint32_t scales, std::uint32_t biases) const {
    const sy_tensor *table = input(SY_ATTENTION_IN_BLOCK_TABLE), *t = input(codes);
    return {t,
            input(scales),
            input(biases),
            table,
            kv_.kv_format,
            kv_.kv_group,
            table != nullptr ? t->shape[2] * table->shape[1] : t->shape[2]};
  }

  const sy_tensor *input(std::uint32_t i) const {
    return i < call_.n_inputs ? call_.inputs[i] : nullptr;
  }

  std::int64_t keys(std::int64_t b) const {
    if (lengths_ == nullptr) return k_.length;
    std::int32_t n;
    std::memcpy(&n, base(*lengths_) + 4 * b * lengths_->strides[0], sizeof n);
    return n < 0 ? 0 : n > k_.length ? k_.length : n;
  }

  /// Position of query i among `keys` keys.
  std::int64_t position(std::int64_t i, std::int64_t keys) const {
    return p_.causal == SY_CAUSAL_TOP_LEFT ? i : i + keys - q_.shape[2];
  }

  bool visible(std::int64_t at, std::int64_t j) const {
    if (p_.causal != SY_CAUSAL_NONE && j > at) return false;
    if (p_.window_left >= 0 && at - j > p_.window_left && j >= kv_.keep) return false;
    return p_.window_right < 0 || j - at <= p_.window_right;
  }

  /// t(i, j), or -infinity where key j is hidden; k is read only where it is visible.
  double score(const Row &r, std::int64_t at, std::int64_t j) const {
    if (!visible(at, j)) return -kInfinity;
    const double bias = mask_ != nullptr ? mask_at(*mask_, r.b, r.h, r.i, j) : 0.0;
    if (bias == -kInfinity) return bias;
    k_.read<T>(r.b, r.h / group_, j, q_.shape[3], row_);
    double dot = 0;
    for (std::int64_t e = 0; e < q_.shape[3]; ++e) dot += qk_[e] * row_[e];
    double t = dot * static_cast<double>(p_.scale);
    if (p_.softcap > 0) {
      const auto cap = static_cast<double>(p_.softcap);
      t = cap * std::tanh(t / cap);
    }
    const std::int64_t dropped = j < kv_.keep ? kv_.gap : 0;
    if (alibi_ != nullptr) t += scalar_at(*alibi_, r.h) * static_cast<double>(j - at - dropped);
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
    for (std::int64_t e = 0; e < o_.shape[3]; ++e) sum_[e] = 0;
    for (std::int64_t j = 0; j < n && !skip; ++j) {
      if (t_[j] == -kInfinity) continue;
      const double p = std::exp(t_[j] - max);
      denominator += p;
      v_.read<T>(r.b, r.h / group_, j, o_.shape[3], row_);
      for (std::int64_t e = 0; e < o_.shape[3]; ++e) sum_[e] += p * row_[e];
    }
    if (sinks_ != nullptr && max != -kInfinity)
      denominator += std::exp(scalar_at(*sinks_, r.h) - max);
    return denominator;
  }

  void write(const Row &r, double denominator, double max, bool nothing, bool poisoned) const {
    char *o = row_of<T>(o_, r.b, r.h, r.i);
    for (std::int64_t e = 0; e < o_.shape[3]; ++e) {
      const double x = poisoned ? std::nan("") : nothing ? 0.0 : sum_[e] / denominator;
      store<T>(o + T::kSize * e * o_.strides[3], x);
    }
    if (lse_ == nullptr) return;
    const double x = poisoned ? std::nan("") : nothing ? max : max + std::log(denominator);
    store<F32>(row_of<F32>(*lse_, r.b, r.h, r.i), x);
  }

  const sy_call &call_;
  const sy_attention_kv_params kv_;
  const sy_attention_params &p_;
  const sy_tensor &q_, &o_;
  const Keys k_, v_;
  const sy_tensor *mask_, *sinks_, *alibi_, *lengths_, *lse_;
  const std::int64_t group_;  // query heads per key head
  double *t_;                 // [Lkv] scores of a row
  double *qk_;                // [Dk] the row's query
  double *sum_;               // [Dv]
  double *row_;               // [Dk] or [Dv] of one key
};

std::int32_t supports(const KernelDef &, const Context &, const sy_call &call, sy_error *reason) {
  return cpu::inputs_in_host_memory(call, reason);
}

/// Keys of a sequence at most.
std::int64_t length_of(const sy_call &call) {
  const bool paged = call.n_inputs > SY_ATTENTION_IN_BLOCK_TABLE &&
                     call.inputs[SY_ATTENTION_IN_BLOCK_TABLE] != nullptr;
  const std::int64_t n = call.inputs[SY_ATTENTION_IN_K]->shape[2];
  return paged ? n * call.inputs[SY_ATTENTION_IN_BLOCK_TABLE]->shape[1] : n;
}

std::uint64_t estimate(const KernelDef &, const Context &, const sy_call &call) {
  const sy_tensor &q = *call.inputs[SY_ATTENTION_IN_Q], &o = *call.outputs[SY_ATTENTION_OUT_O];
  const double scores = static_cast<double>(q.shape[0] * q.shape[1]) *
                        static_cast<double>(q.shape[2]) * static_cast<double>(length_of(call));
  return static_cast<std::uint64_t>(1000 + scores * static_cast<double>(q.shape[3] + o.shape[3]));
}

std::uint64_t workspace_size(const KernelDef &, const Context &, const sy_call &call) {
  const std::int64_t dk = call.inputs[SY_ATTENTION_IN_Q]->shape[3],
                     dv = call.outputs[SY_ATTENTION_OUT_O]->shape[3];
  const std::int64_t row = dk > dv ? dk : dv;
  return sizeof(double) * static_cast<std::uint64_t>(length_of(call) + dk + dv + row);
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
