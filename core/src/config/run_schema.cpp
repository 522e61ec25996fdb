// SPDX-License-Identifier: Apache-2.0
#include "config/run_schema.hpp"

#include <array>
#include <limits>

#include "config/engine_schema.hpp"
#include "ops/quantize_formats.hpp"

namespace switchyard::config {
namespace {

constexpr std::int64_t kMany = std::numeric_limits<std::int64_t>::max();
constexpr std::string_view kOps[] = {"quantize", "dequantize", "kmeans", "attention"};
constexpr std::string_view kCasts[] = {"f32", "f16", "bf16"};
constexpr std::string_view kGranularities[] = {"tensor", "row", "group", "channel"};
constexpr std::string_view kRoundings[] = {"nearest", "stochastic"};
constexpr std::string_view kScales[] = {"default", "absmax", "absmean", "floor", "rceil"};
constexpr std::string_view kNonfinite[] = {"error", "saturate"};
constexpr std::string_view kCausal[] = {"false", "true", "none", "top_left", "bottom_right"};

constexpr Field slot(std::string_view name, std::string_view doc, bool required = false) {
  return {.name = name, .type = Type::array, .doc = doc, .required = required};
}
constexpr std::array kValueSlots = {slot("x", "the array", true)};
constexpr std::array kFileSlots = {slot("out", "the result", true)};
constexpr std::array kPointSlots = {slot("x", "points, [n, d], or a picture (.png)", true),
                                    slot("sample_weight", "f32 [n]")};
constexpr std::array kFitSlots = {
    slot("labels", "i32 [n]"), slot("centroids", "f32 [k, d]"), slot("counts", "i64 [k]"),
    slot("picture", "of a .png input: each pixel in its cluster's colour")};
constexpr std::array kAttentionSlots = {slot("q", "[batch, heads, length, head_dim]", true),
                                        slot("k", "keys", true), slot("v", "values", true),
                                        slot("mask", "bool (true = attend) or additive"),
                                        slot("sinks", "f32 [heads]")};
constexpr std::array kScoreSlots = {slot("out", "the result", true),
                                    slot("lse", "f32 [batch, heads, length]")};
constexpr Section kValues{"input", kValueSlots}, kFiles{"output", kFileSlots},
    kPoints{"input", kPointSlots}, kFit{"output", kFitSlots}, kQkv{"input", kAttentionSlots},
    kScores{"output", kScoreSlots};

constexpr std::array kFilterFields = {
    Field{.name = "include",
          .type = Type::text_list,
          .doc = "glob patterns over tensor names; none = all"},
    Field{.name = "exclude", .type = Type::text_list, .doc = "patterns that win over `include`"},
};
constexpr Section kFilter{"tensors", kFilterFields};

/// What every job has, around the keys of its own.
template <std::size_t N>
constexpr auto job_fields(const Section &input, const Section &output,
                          const std::array<Field, N> &own) {
  const std::array before = {
      Field{.name = "name", .type = Type::text, .doc = "for reports and `--set`; unique"},
      Field{.name = "op",
            .type = Type::choice,
            .doc = "operation",
            .required = true,
            .choices = kOps},
      Field{.name = "input",
            .type = Type::slots,
            .doc = "what is read",
            .required = true,
            .section = &input},
      Field{.name = "output",
            .type = Type::slots,
            .doc = "what is written; nothing where absent",
            .section = &output},
      Field{.name = "dtype",
            .type = Type::choice,
            .fallback = "null",
            .doc = "floating-point inputs are cast on load (nearest, ties to even)",
            .choices = kCasts},
  };
  const std::array after = {
      Field{.name = "compare",
            .type = Type::text_list,
            .doc = "backends to time and check the result against"},
      Field{.name = "compare_limit",
            .type = Type::integer,
            .fallback = "0",
            .doc =
                "comparing takes leading rows (queries) of at most this many input values; 0 = all",
            .low = 0},
      Field{.name = "repeat",
            .type = Type::integer,
            .fallback = "1",
            .doc = "runs of the operation; the median time is reported",
            .low = 1,
            .high = 1'000'000},
  };
  std::array<Field, before.size() + N + after.size()> all;
  std::size_t n = 0;
  for (const Field &f : before) all[n++] = f;
  for (const Field &f : own) all[n++] = f;
  for (const Field &f : after) all[n++] = f;
  return all;
}

const auto kQuantizeFields = job_fields(
    kValues, kFiles,
    std::array{
        Field{.name = "format",
              .type = Type::choice,
              .doc = "quantised format, in any case",
              .required = true,
              .choices = quant_format_names()},
        Field{.name = "group_size",
              .type = Type::integer,
              .fallback = "0",
              .doc = "values per scale; 0 = the format's default",
              .low = 0,
              .high = 1 << 20},
        Field{.name = "granularity",
              .type = Type::choice,
              .fallback = "tensor",
              .doc = "what shares a scale (`ternary`, `tern2`, `int8`)",
              .choices = kGranularities},
        Field{.name = "scale",
              .type = Type::choice,
              .fallback = "default",
              .doc = "rule for the scale; `default` = the format owner's",
              .choices = kScales},
        Field{.name = "nonfinite",
              .type = Type::choice,
              .fallback = "error",
              .doc = "what NaN and infinities do",
              .choices = kNonfinite},
        Field{.name = "rounding",
              .type = Type::choice,
              .fallback = "nearest",
              .doc = "of codes; `stochastic` is for `int8`",
              .choices = kRoundings},
        Field{.name = "seed",
              .type = Type::integer,
              .fallback = "0",
              .doc = "of stochastic rounding",
              .low = 0,
              .high = std::numeric_limits<std::int64_t>::max()},
        Field{.name = "tensors",
              .type = Type::section,
              .doc =
                  "the input is a model: quantise the weight matrices with these names, copy the "
                  "rest; the output is a .safetensors file with MLX names",
              .section = &kFilter},
    });
const auto kDequantizeFields = job_fields(
    kValues, kFiles,
    std::array{Field{.name = "tensors",
                     .type = Type::section,
                     .doc = "the input is a quantised model: restore the tensors with these names",
                     .section = &kFilter}});
const auto kKmeansFields = job_fields(
    kPoints, kFit,
    std::array{
        Field{.name = "k", .type = Type::integer, .doc = "clusters", .required = true, .low = 1},
        Field{.name = "init",
              .type = Type::text,
              .fallback = "k-means++",
              .doc = "`k-means++`, `k-means||`, `random`, or an array file with centroids [k, d]"},
        Field{.name = "n_init",
              .type = Type::integer,
              .fallback = "1",
              .doc = "fits from different starts; the best is kept",
              .low = 1,
              .high = 1'000'000},
        Field{.name = "max_iter",
              .type = Type::integer,
              .fallback = "300",
              .doc = "most centroid updates of a fit",
              .low = 0,
              .high = 1'000'000'000},
        Field{.name = "tol",
              .type = Type::number,
              .fallback = "0.0001",
              .doc = "stop when the centroids moved by less, relative to the mean variance",
              .least = 0},
        Field{.name = "seed",
              .type = Type::integer,
              .fallback = "0",
              .doc = "of the random numbers",
              .low = 0,
              .high = kMany},
        Field{.name = "int8",
              .type = Type::boolean,
              .fallback = "false",
              .doc = "iterate with labels from 8-bit codes: another, coarser result"},
    });
const auto kAttentionFields = job_fields(
    kQkv, kScores,
    std::array{
        Field{
            .name = "causal",
            .type = Type::choice,
            .fallback = "false",
            .doc = "`true` = `bottom_right`: queries are the last positions; `top_left`: the first",
            .choices = kCausal},
        Field{.name = "window",
              .type = Type::integer,
              .fallback = "null",
              .doc = "keys that a query sees, itself included; absent = all",
              .low = 1},
        Field{.name = "softcap",
              .type = Type::number,
              .fallback = "null",
              .doc = "scores become softcap * tanh(score / softcap); absent = none",
              .least = 0},
        Field{.name = "scale",
              .type = Type::number,
              .fallback = "null",
              .doc = "of the scores; absent = 1 / sqrt(head_dim)"},
    });

const Section kJobs[] = {{"jobs: quantize", kQuantizeFields},
                         {"jobs: dequantize", kDequantizeFields},
                         {"jobs: kmeans", kKmeansFields},
                         {"jobs: attention", kAttentionFields}};

const std::array kRunFields = {
    kVersionField,
    Field{.name = "engine",
          .type = Type::section,
          .doc = "how operations are routed",
          .section = &engine_section()},
    Field{.name = "jobs", .type = Type::any_list, .doc = "what to run, in order", .required = true},
};
const Section kRun{"the file", kRunFields};

}  // namespace

const Section &run_section() noexcept { return kRun; }

std::span<const std::string_view> job_ops() noexcept { return kOps; }

const Section *job_section(std::string_view op) noexcept {
  for (std::size_t i = 0; i < std::size(kOps); ++i)
    if (kOps[i] == op) return &kJobs[i];
  return nullptr;
}

std::string run_markdown() {
  std::string out = markdown(kRun);
  for (const Section &job : kJobs) out += markdown(job);
  return out;
}

}  // namespace switchyard::config
