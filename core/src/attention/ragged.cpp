// SPDX-License-Identifier: Apache-2.0
/// Sequences of different lengths in one array: a call for each.
#include <fmt/format.h>

#include <array>
#include <chrono>
#include <mutex>
#include <switchyard/attention.hpp>

#include "attention/attention.hpp"
#include "facade/engine_impl.hpp"
#include "host/float_state.hpp"

namespace switchyard {
namespace {

/// The same calls, each on the thread that makes it.
class OneThread final : public Runner {
 public:
  explicit OneThread(Runner &runner) : runner_(runner) {}
  std::unique_ptr<States> make_states(std::uint64_t constant_inputs) override {
    return runner_.make_states(constant_inputs);
  }
  Status run(std::string_view op, sy_call &call, States *states, Answer *answer) override {
    return runner_.run(op, call, states, answer);
  }
  std::uint32_t threads() const noexcept override { return 1; }
  void parallel_for(std::uint64_t n, const std::function<void(std::uint64_t)> &fn) override {
    for (std::uint64_t i = 0; i < n; ++i) fn(i);
  }

 private:
  Runner &runner_;
};

Status check_offsets(std::string_view name, const TensorView &offsets, std::int64_t total) {
  if (offsets.rank() != 1 || !same(offsets.dtype(), dtypes::i32) || offsets.dim(0) < 1)
    return fail(ErrorCode::shape, fmt::format("{} must be i32 [sequences + 1]", name));
  std::int32_t last = 0;
  for (std::int64_t i = 0; i < offsets.dim(0); ++i) {
    const std::int32_t n = offsets.data<const std::int32_t>()[i * offsets.stride(0)];
    if (n < last || (i == 0 && n != 0))
      return fail(ErrorCode::invalid_argument,
                  fmt::format("{}[{}] is {}; offsets begin with 0 and never fall", name, i, n));
    last = n;
  }
  if (last == total) return {};
  return fail(ErrorCode::invalid_argument,
              fmt::format("{} ends with {}, but there are {} positions", name, last, total));
}

Status check_arrays(const TensorView &q, const TensorView &k, const TensorView &v,
                    const TensorView &q_offsets, const TensorView &kv_offsets,
                    const AttentionCall &o) {
  for (const auto &[name, t] : {std::pair{"q", &q}, std::pair{"k", &k}, std::pair{"v", &v}})
    if (!t->present() || t->rank() != 3)
      return fail(ErrorCode::shape, fmt::format("{} must be [positions, heads, head_dim]", name));
  if (k.dim(0) != v.dim(0))
    return fail(ErrorCode::shape, fmt::format("k has {} positions and v {}", k.dim(0), v.dim(0)));
  if (o.mask.present() || o.kv_lengths.present() || o.block_table.present())
    return fail(ErrorCode::invalid_argument,
                "a ragged call takes no mask, kv_lengths or block_table");
  if (auto ok = check_offsets("q_offsets", q_offsets, q.dim(0)); !ok) return ok;
  if (auto ok = check_offsets("kv_offsets", kv_offsets, k.dim(0)); !ok) return ok;
  if (q_offsets.dim(0) == kv_offsets.dim(0)) return {};
  return fail(ErrorCode::shape, fmt::format("q_offsets has {} entries and kv_offsets {}",
                                            q_offsets.dim(0), kv_offsets.dim(0)));
}

/// Positions begin..end-1 of [positions, heads, dim] as [1, heads, positions, dim].
TensorView sequence(const TensorView &t, std::int64_t begin, std::int64_t end) {
  sy_tensor raw = t.raw();
  raw.byte_offset += static_cast<std::uint64_t>(begin * t.stride(0)) * size_of(t.dtype());
  raw.rank = 4;
  const std::array<std::int64_t, 4> shape{1, t.dim(1), end - begin, t.dim(2)},
      strides{0, t.stride(1), t.stride(0), t.stride(2)};
  for (std::size_t i = 0; i < 4; ++i) {
    raw.shape[i] = shape[i];
    raw.strides[i] = strides[i];
  }
  return TensorView(raw);
}

}  // namespace

Result<AttentionResult> attention(Engine &engine, const TensorView &q, const TensorView &k,
                                  const TensorView &v, const AttentionCall &call) {
  const FloatStateGuard state;
  auto result = attention(*engine.impl().dispatcher, q, k, v, call, StoredKeys());
  if (result) result->info.requested_backend = engine.impl().requested(SY_OP_ATTENTION);
  return result;
}

Result<AttentionResult> attention_ragged(Engine &engine, const TensorView &q, const TensorView &k,
                                         const TensorView &v, const TensorView &q_offsets,
                                         const TensorView &kv_offsets,
                                         const AttentionCall &options) {
  const FloatStateGuard state;
  const auto start = std::chrono::steady_clock::now();
  if (auto ok = check_arrays(q, k, v, q_offsets, kv_offsets, options); !ok)
    return tl::unexpected(ok.error());
  AttentionResult result;
  if (!options.out.present()) {
    auto made = Tensor::empty(q.dtype(), std::array{q.dim(0), q.dim(1), v.dim(2)});
    if (!made) return tl::unexpected(made.error());
    result.out = std::move(*made);
  } else if (options.out.rank() != 3 || options.out.dim(0) != q.dim(0)) {
    return fail(ErrorCode::shape,
                fmt::format("out has shape {}; it must be [{}, {}, {}]",
                            shape_text(options.out.shape()), q.dim(0), q.dim(1), v.dim(2)));
  }
  if (options.return_lse) {
    auto made = Tensor::empty(dtypes::f32, std::array{q.dim(0), q.dim(1)});
    if (!made) return tl::unexpected(made.error());
    result.lse = std::move(*made);
  }
  const TensorView out = options.out.present() ? options.out : result.out.view();
  Runner &all = *engine.impl().dispatcher;
  OneThread one(all);
  const std::int64_t sequences = q_offsets.dim(0) - 1;
  const bool whole = sequences >= 2 * static_cast<std::int64_t>(all.threads());
  std::mutex mutex;
  Status failed;
  const auto attend = [&](std::int64_t b) {
    const auto at = [&](const TensorView &offsets, std::int64_t i) {
      return std::int64_t{offsets.data<const std::int32_t>()[i * offsets.stride(0)]};
    };
    const std::int64_t from = at(q_offsets, b), to = at(q_offsets, b + 1);
    if (from == to) return;
    AttentionCall mine = options;
    mine.out = sequence(out, from, to);
    const std::int64_t keys = at(kv_offsets, b), keys_end = at(kv_offsets, b + 1);
    auto part = attention(whole ? static_cast<Runner &>(one) : all, sequence(q, from, to),
                          sequence(k, keys, keys_end), sequence(v, keys, keys_end), mine, {});
    const std::lock_guard lock(mutex);
    if (!part) {
      if (failed) failed = tl::unexpected(part.error());
      return;
    }
    for (std::int64_t i = from; i < to && options.return_lse; ++i)
      for (std::int64_t h = 0; h < q.dim(1); ++h)
        result.lse.data<float>()[i * q.dim(1) + h] =
            part->lse.data<float>()[h * (to - from) + i - from];
    result.info = std::move(part->info);
  };
  if (whole)
    all.parallel_for(static_cast<std::uint64_t>(sequences),
                     [&](std::uint64_t b) { attend(static_cast<std::int64_t>(b)); });
  else
    for (std::int64_t b = 0; b < sequences && failed; ++b) attend(b);
  if (!failed) return tl::unexpected(failed.error());
  const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  result.info.time_ms = took.count();
  return result;
}

}  // namespace switchyard
