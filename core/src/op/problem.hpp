// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A generated problem: owned inputs and parameters plus a description of the outputs.

#include <cstring>
#include <optional>
#include <vector>

#include "base/call_frame.hpp"
#include "op/shape.hpp"

namespace switchyard {

/// What an output looks like; strides empty = contiguous.
struct TensorSpec {
  DType dtype;
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> strides;

  std::vector<std::int64_t> all_strides() const;  ///< the contiguous ones where none are given
};

struct Problem {
  std::string op;
  Shape shape;  ///< reproduces it, together with `seed`
  std::uint64_t seed = 0;
  std::vector<Tensor> inputs;                      ///< absent tensors = NULL slots
  std::vector<std::optional<TensorSpec>> outputs;  ///< nullopt = not wanted
  std::vector<std::byte> params;                   ///< the op's params struct

  template <class P>
  void set_params(P p) {
    p.struct_size = sizeof(P);
    params.resize(sizeof(P));
    std::memcpy(params.data(), &p, sizeof(P));
  }
};

/// Output buffers for one run of a problem, with canary bytes before and after each.
class ProblemOutputs {
 public:
  static Result<ProblemOutputs> make(const Problem &problem);
  const TensorView &view(std::size_t slot) const noexcept { return views_[slot]; }
  std::size_t size() const noexcept { return views_.size(); }
  /// The first slot whose canaries changed, or nullopt.
  std::optional<std::size_t> overrun() const noexcept;

 private:
  std::vector<TensorView> views_;
  std::vector<Tensor> storage_;
};

/// A hash of what the inputs hold.
std::uint64_t digest(const Problem &problem) noexcept;

/// Fills `frame` (made with the problem's slot counts) with inputs, parameters and outputs.
void bind(const Problem &problem, const ProblemOutputs &outputs, CallFrame &frame) noexcept;

}  // namespace switchyard
