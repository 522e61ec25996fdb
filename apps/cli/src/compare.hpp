// SPDX-License-Identifier: Apache-2.0
#pragma once
/// How much faster than another backend, and is it right: both run the same operation on the same
/// data, or on a stated part of it.

#include <map>
#include <memory>
#include <string_view>

#include "program.hpp"

namespace switchyard::cli {

struct Comparison {
  std::string backend;  ///< the other one, "reference"
  std::string sample;   ///< "" = all of the data, else which part: "1000 of 50000 rows"
  double own_ms = 0;    ///< on that data; the best of a few runs
  double other_ms = 0;
  bool equal = false;      ///< bit for bit; attention: within its error bounds
  std::string difference;  ///< where and by how much, if not equal

  double factor() const noexcept { return own_ms > 0 ? other_ms / own_ms : 0; }
  Json json() const;
  /// "12x as fast as reference (1 ms against 12 ms), same result" and which part was compared.
  std::string text() const;
};

/// Engines pinned to one backend each, made when first asked for.
class Rivals {
 public:
  Rivals(Options options, const Engine &own) : options_(std::move(options)), own_(own) {}
  /// Fails if the backend is unknown or refused.
  Result<Engine *> get(const std::string &backend);

 private:
  Options options_;
  const Engine &own_;
  std::map<std::string, std::unique_ptr<Engine>> engines_;
};

/// `limit` = most values of the main input to use (whole rows or positions; at least one); 0 = all.
Result<Comparison> compare_quantize(Engine &own, Engine &other, TensorView x,
                                    QuantizeOptions options, std::int64_t limit);
Result<Comparison> compare_dequantize(Engine &own, Engine &other, const Quantized &q);
Result<Comparison> compare_kmeans(Engine &own, Engine &other, TensorView x, KMeansOptions options,
                                  std::int64_t limit);
Result<Comparison> compare_attention(Engine &own, Engine &other, TensorView q, TensorView k,
                                     TensorView v, AttentionOptions options, std::int64_t limit);

/// The comparison that single commands make: against "reference", on little data. nullopt where
/// there is nothing to compare (the reference itself answered, or is not loaded).
template <class F>
std::optional<Comparison> compare_with_reference(Rivals &rivals, const RunInfo &info, F compare) {
  if (info.backend == "reference") return std::nullopt;
  auto other = rivals.get("reference");
  if (!other) return std::nullopt;
  Result<Comparison> result = compare(**other);
  if (!result) return std::nullopt;
  result->backend = "reference";
  return *result;
}

/// Adds "compared" to a document; null if nothing was compared.
void add_comparison(Json &doc, const std::optional<Comparison> &comparison);

}  // namespace switchyard::cli
