// SPDX-License-Identifier: Apache-2.0
// target_bits: formats by measured error.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "models/bits.hpp"
#include "models/plan.hpp"
#include "models/quality.hpp"
#include "models/reader.hpp"

namespace switchyard::models {
namespace {

/// Values of a tensor that candidates are measured on: all of a smaller one, else runs of rows
/// evenly spread over it.
constexpr std::int64_t kSampleValues = std::int64_t{1} << 20;
constexpr std::int64_t kSampleRuns = 16;
/// Below the smallest container's bits, a target means the information in ternary codes, log2(3).
constexpr double kTernaryTarget = 1.58, kTernaryBelow = 1.6;

bool is_ternary(const TensorChoice &choice) {
  return choice.scale == "absmean" || choice.format == "tern2" || choice.format == "ternary" ||
         choice.format == "i2_s";
}

/// The largest block or group that divides the rows: cuts at its multiples suit every format that
/// suits the rows.
std::int64_t common_unit(std::int64_t cols) {
  for (std::int64_t unit : {256, 128, 64, 32})
    if (cols % unit == 0) return unit;
  return std::max<std::int64_t>(cols, 1);
}

class Sampler {
 public:
  Sampler(Engine &engine, const Source &source) : reader_(engine, source) {}

  /// An array [rows, cols] that stays valid until the next call.
  Result<TensorView> take(const SourceTensor &t, DType dtype) {
    const Matrix m = matrix_of(t.info.shape);
    const bool rows_whole = t.quant && (t.quant->choice.granularity == "row" ||
                                        t.quant->choice.granularity == "channel");
    Pieces p = cut_rows(m.rows, m.cols, rows_whole ? m.cols : common_unit(m.cols),
                        kSampleValues / kSampleRuns);
    if (t.quant && !t.quant->by_rows) p = {m.rows, m.cols, m.rows};
    if (p.rows * p.cols <= kSampleValues || p.rows <= kSampleRuns * p.per_piece)
      return reader_.read(t, p, 0, p.rows, dtype);
    const std::array shape = {kSampleRuns * p.per_piece, p.cols};
    auto all = sample_.array(dtype, shape);
    if (!all) return all;
    const std::size_t run_bytes = static_cast<std::size_t>(p.per_piece * p.cols) * size_of(dtype);
    for (std::int64_t i = 0; i < kSampleRuns; ++i) {
      const std::int64_t first = (p.rows - p.per_piece) * i / (kSampleRuns - 1);
      auto run = reader_.read(t, p, first, p.per_piece, dtype);
      if (!run) return run;
      std::copy_n(run->data<const std::byte>(), run_bytes,
                  all->data<std::byte>() + static_cast<std::size_t>(i) * run_bytes);
    }
    return all;
  }

 private:
  ValueReader reader_;
  Scratch sample_;
};

/// Squared error of the sample.
Result<double> sample_error(Engine &engine, const TensorView &x, const TensorChoice &choice,
                            const std::string &nonfinite, Scratch &memory) {
  auto q = engine.quantize(x, options_of(choice, nonfinite));
  if (!q) return tl::unexpected(q.error());
  auto y = memory.array(dtypes::f32, x.shape());
  if (!y) return tl::unexpected(y.error());
  if (auto restored = engine.dequantize(*q, *y); !restored) return tl::unexpected(restored.error());
  TensorQuality quality;
  add_errors(x, y->data<const float>(), quality);
  return quality.squared_error;
}

/// What may be chosen for a tensor, keeping it included.
std::vector<CandidateError> fitting(const PlanTensor &p, std::span<const TensorChoice> candidates,
                                    Container container) {
  std::vector<CandidateError> out;
  for (const TensorChoice &choice : candidates) {
    auto spec = quant_spec(choice, p.source->info.shape, p.dtype);
    if (!spec) continue;
    if (container == Container::gguf && ggml_name(*spec->layout.format).empty()) continue;
    out.push_back({spec->choice, spec->bytes, 0, false});
  }
  return out;
}

Status measure(Engine &engine, const Source &source, const ModelOptions &options,
               std::vector<PlanTensor *> &open) {
  Sampler sampler(engine, source);
  Scratch memory;
  for (std::size_t i = 0; i < open.size(); ++i) {
    PlanTensor &p = *open[i];
    const ModelTensor &info = p.source->info;
    if (options.progress &&
        !options.progress("measure " + info.name,
                          static_cast<double>(i) / static_cast<double>(open.size())))
      return fail(ErrorCode::cancelled, "cancelled while formats were measured");
    if (info.values == 0) continue;
    auto x = sampler.take(*p.source, p.dtype);
    if (!x) return tl::unexpected(about(x.error(), source, info.name));
    const double scale = static_cast<double>(info.values) /
                         static_cast<double>(std::max<std::int64_t>(x->elements(), 1));
    for (CandidateError &c : p.candidates) {
      if (c.choice.format.empty()) continue;
      auto error = sample_error(engine, *x, c.choice, options.nonfinite, memory);
      if (!error) {
        Error e = error.error();
        e.index = -1;  // of the sample, not of the tensor
        return tl::unexpected(about(e, source, info.name));
      }
      c.squared_error = *error * scale;
    }
  }
  return {};
}

/// Bytes of what rules have decided, and the values that the target counts.
struct Fixed {
  std::uint64_t bytes = 0;
  double values = 0;
};

Fixed fixed_of(const Plan &plan) {
  Fixed fixed;
  for (const PlanTensor &p : plan.tensors) {
    if (!p.source->floating() || p.source->info.shape.size() < 2) continue;
    fixed.values += static_cast<double>(p.source->info.values);
    if (!p.rule.empty()) fixed.bytes += p.quant ? p.quant->bytes : p.source->info.bytes;
  }
  return fixed;
}

Status take(PlanTensor &p, std::size_t index, const std::string &rule) {
  p.candidates[index].chosen = true;
  p.rule = rule;
  const TensorChoice &choice = p.candidates[index].choice;
  if (choice.format.empty()) return {};
  auto spec = quant_spec(choice, p.source->info.shape, p.dtype);
  if (!spec) return tl::unexpected(spec.error());
  p.action = Action::quantize;
  p.quant = std::move(*spec);
  return {};
}

/// Every tensor in the smallest ternary container that fits; of equal ones the one with less error.
Status choose_ternary(std::vector<PlanTensor *> &open) {
  for (PlanTensor *p : open) {
    std::size_t best = p->candidates.size();
    for (std::size_t i = 0; i < p->candidates.size(); ++i) {
      const CandidateError &c = p->candidates[i];
      if (c.choice.format.empty()) continue;
      if (best == p->candidates.size() ||
          std::pair(c.bytes, c.squared_error) <
              std::pair(p->candidates[best].bytes, p->candidates[best].squared_error))
        best = i;
    }
    const bool found = best < p->candidates.size();
    if (auto ok = take(*p, found ? best : 0,
                       found ? "ternary, the smallest container" : "kept: no ternary format fits");
        !ok)
      return ok;
  }
  return {};
}

}  // namespace

Status choose_by_error(Engine &engine, const Source &source, const Recipe &recipe,
                       const ModelOptions &options, Plan &plan) {
  const bool ternary = plan.target_bits >= kTernaryTarget && plan.target_bits < kTernaryBelow;
  auto candidates =
      recipe.candidates.empty() ? default_candidates(plan.container) : recipe.candidates;
  if (ternary) std::erase_if(candidates, [](const TensorChoice &c) { return !is_ternary(c); });
  std::vector<PlanTensor *> open;
  for (PlanTensor &p : plan.tensors) {
    if (!p.rule.empty()) continue;
    p.candidates = fitting(p, candidates, plan.container);
    const CandidateError keep{TensorChoice{}, p.source->info.bytes, 0, false};
    p.candidates.insert(p.candidates.begin(), keep);
    open.push_back(&p);
  }
  if (auto ok = measure(engine, source, options, open); !ok) return ok;
  if (ternary) return choose_ternary(open);

  const Fixed fixed = fixed_of(plan);
  const double budget =
      std::floor(plan.target_bits / 8 * fixed.values) - static_cast<double>(fixed.bytes);
  std::vector<std::vector<StoreOption>> choices;
  double least = static_cast<double>(fixed.bytes);
  for (const PlanTensor *p : open) {
    auto &list = choices.emplace_back();
    for (const CandidateError &c : p->candidates) list.push_back({c.bytes, c.squared_error});
    least += static_cast<double>(std::ranges::min(list, {}, &StoreOption::bytes).bytes);
  }
  auto chosen = budget < 0 ? Result<Allocation>(fail(ErrorCode::invalid_argument, ""))
                           : allocate(choices, static_cast<std::uint64_t>(budget));
  if (!chosen)
    return fail(ErrorCode::invalid_argument,
                fmt::format("target_bits {} cannot be met: {} bytes are fixed by rules, and the "
                            "smallest choices come to {:.4g} bits per value",
                            plan.target_bits, fixed.bytes,
                            fixed.values > 0 ? least * 8 / fixed.values : 0.0));
  for (std::size_t i = 0; i < open.size(); ++i)
    if (auto ok = take(*open[i], chosen->chosen[i],
                       fmt::format("least error at {} bits per value", plan.target_bits));
        !ok)
      return ok;
  plan.target_gap = chosen->bound > 0 ? chosen->error / chosen->bound - 1 : 0;
  return {};
}

}  // namespace switchyard::models
