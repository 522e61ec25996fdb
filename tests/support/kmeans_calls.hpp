// SPDX-License-Identifier: Apache-2.0
#pragma once
/// kmeans.assign calls on made-up data, and what the reference answers to them.

#include "base/call_frame.hpp"
#include "support/engine_support.hpp"

namespace switchyard::testing {

/// A kmeans.assign call on its own data, aligned like all of Switchyard's arrays.
struct AssignCall {
  explicit AssignCall(std::int64_t n, std::int64_t d = 4, std::int64_t k = 3)
      : points(*Tensor::empty(dtypes::f32, std::array{n, d})),
        centroids(*Tensor::empty(dtypes::f32, std::array{k, d})),
        distances(*Tensor::empty(dtypes::f32, std::array{n})),
        output(*Tensor::zeros(dtypes::i32, std::array{n})),
        frame(SY_KMEANS_ASSIGN_INPUTS, SY_KMEANS_ASSIGN_OUTPUTS) {
    for (std::int64_t i = 0; i < n * d; ++i)
      points.data<float>()[i] = static_cast<float>((i * 7919) % 101) * 0.25f;
    for (std::int64_t i = 0; i < k * d; ++i)
      centroids.data<float>()[i] = static_cast<float>((i * 31) % 17);
    frame.input(SY_KMEANS_IN_X, points);
    frame.input(SY_KMEANS_IN_CENTROIDS, centroids);
    frame.output(SY_KMEANS_ASSIGN_OUT_LABELS, output);
    frame.output(SY_KMEANS_ASSIGN_OUT_DISTANCES, distances);
    frame.params(params);
  }
  std::vector<std::int32_t> labels() const {
    const auto *p = output.data<std::int32_t>();
    return {p, p + output.elements()};
  }
  Tensor points, centroids, distances, output;
  sy_kmeans_params params{};
  CallFrame frame;
};

inline std::vector<std::int32_t> reference_labels(std::int64_t n, std::int64_t d = 4) {
  Options options = test_options();
  options.pin = {{"*", "reference"}};
  Engine engine = make_engine(options);
  AssignCall call(n, d);
  EXPECT_EQ(engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call()), SY_OK);
  return call.labels();
}

}  // namespace switchyard::testing
