// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the core knows of an operation: how to check a call, key it, generate problems, compare
/// results and count work. One OpSpec serves dispatch, verification, tests, tuning and benchmarks,
/// so that what is tuned is what was verified.

#include <functional>
#include <memory>
#include <span>
#include <string>

#include "op/key.hpp"
#include "op/problem.hpp"
#include "op/shape.hpp"

namespace switchyard {

/// Cost of one call, for metrics, predictions and reports against the machine's limits.
struct Work {
  double flops = 0;
  double bytes = 0;  ///< least traffic: each input read once, each output written once
};

/// Runs the reference kernel on a call (outputs caller-owned).
using ReferenceRunner = std::function<Status(const sy_call &)>;

class OpSpec {
 public:
  virtual ~OpSpec() = default;

  virtual std::string_view id() const noexcept = 0;  ///< "kmeans.step"

  /// A step of another operation's driver: a pin of the whole family ("kmeans", "*") holds for it
  /// only where the pinned backend offers it.
  virtual bool helper() const noexcept { return false; }

  /// Full check of shapes, dtypes, strides and parameters. Allocates only to describe an error.
  /// Core calls it before any kernel sees a call, so kernels need not repeat it. [any-thread]
  virtual Status validate(const sy_call &call) const = 0;

  /// Adds format, flags, dtypes, size classes and layouts; core has added op and threads.
  virtual void key(const sy_call &call, KeyBuilder &builder) const noexcept = 0;

  /// The one-line description of a valid call; make_problem's inverse as far as speed and
  /// verification care (values are not described).
  virtual Shape describe(const sy_call &call) const = 0;

  /// A problem of this shape with reproducible random data. Unknown or bad items are usage errors.
  virtual Result<Problem> make_problem(const Shape &shape, std::uint64_t seed) const = 0;

  /// Small and awkward shapes for conformance tests: odd sizes, tails, strides, every feature.
  virtual std::vector<Shape> conformance_shapes() const = 0;

  /// Shapes of the same class as `like` (same format, dtypes, features, layout), small enough for
  /// the reference to take at most about 20 ms each, tails included.
  virtual std::vector<Shape> gate_shapes(const Shape &like) const = 0;

  /// nullopt if `got` is right, else where and by how much it differs. Both frames hold the same
  /// inputs; `reference` may run further calls (attention's error bound needs one).
  virtual std::optional<std::string> compare(const Problem &problem, const sy_call &got,
                                             const sy_call &want,
                                             const ReferenceRunner &reference) const = 0;

  virtual Work work(const sy_call &call) const noexcept = 0;

  /// Recomputes a part of a finished call that the random bits `pick` choose - rows, blocks,
  /// queries; ends more often than their share - and compares. "" = right, else what is wrong; an
  /// error: the part could not be recomputed. The whole call where an operation knows no smaller
  /// part. The inputs must still hold what the call read. [any-thread]
  virtual Result<std::string> spot_check(const sy_call &done, std::uint64_t pick,
                                         const ReferenceRunner &reference) const;
  /// False where `spot_check` recomputes the whole call, which takes as long as the reference does.
  virtual bool checks_parts() const noexcept { return false; }
};

/// All operations, in the fixed order of op.cpp; an index there is an OpIndex.
std::span<const OpSpec *const> all_ops() noexcept;
using OpIndex = std::uint32_t;
/// Index of an op, or a usage error with "did you mean".
Result<OpIndex> find_op(std::string_view id);

// One factory per operation, defined in ops/*.cpp.
const OpSpec &quantize_spec() noexcept;
const OpSpec &dequantize_spec() noexcept;
const OpSpec &kmeans_step_spec() noexcept;
const OpSpec &kmeans_assign_spec() noexcept;
const OpSpec &kmeans_seed_spec() noexcept;
const OpSpec &attention_spec() noexcept;
const OpSpec &matmul_spec() noexcept;
const OpSpec &rope_spec() noexcept;
const OpSpec &rms_norm_spec() noexcept;
const OpSpec &layer_norm_spec() noexcept;
const OpSpec &swiglu_spec() noexcept;
const OpSpec &gelu_spec() noexcept;

}  // namespace switchyard
