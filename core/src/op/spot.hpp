// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Parts of finished calls, recomputed by the reference: what OpSpec::spot_check is made of.

#include "op/op_spec.hpp"

namespace switchyard {

/// A smaller call of the same operation over views of a finished call's arrays.
class Spot {
 public:
  /// Parameters, flags and the numbers of slots are `done`'s.
  explicit Spot(const sy_call &done) noexcept;

  void input(std::size_t slot, const TensorView &part) noexcept { want_.input(slot, part); }
  /// `part` of an output that the finished call wrote is compared with fresh memory of its shape.
  Status output(std::size_t slot, const TensorView &part);
  /// An output that the reference needs, but that is not compared.
  Status scratch(std::size_t slot, DType dtype, std::span<const std::int64_t> shape);
  /// The reference's own output after `check`, null if absent.
  sy_tensor *answer(std::size_t slot) noexcept { return want_.output_tensor(slot); }

  /// Runs the reference and compares.
  Result<std::string> check(const OpSpec &op, const ReferenceRunner &reference);

 private:
  CallFrame got_, want_;
  std::vector<Tensor> storage_;
};

/// The whole call again.
Result<std::string> check_whole(const OpSpec &op, const sy_call &done,
                                const ReferenceRunner &reference);

/// Where `count` of `n` neighbours begin: at the start, at the end, or anywhere.
std::int64_t choose_start(std::uint64_t pick, std::int64_t n, std::int64_t count) noexcept;

/// May `done` be recomputed at all: all in host memory, and no output lies on an input.
bool can_be_checked(const sy_call &done) noexcept;

/// More random bits out of `pick`.
std::uint64_t mix_bits(std::uint64_t pick) noexcept;

}  // namespace switchyard
