// SPDX-License-Identifier: Apache-2.0
/// The CUDA plugin with its kernels on an emulated device, against the reference: every problem of
/// the conformance sweep. What is not tried here is the hardware, nvcc's code and speed.
#include <iostream>
#include <map>

#include "facade/engine_impl.hpp"
#include "support/engine_support.hpp"

namespace switchyard {
namespace {

constexpr char kEmulated[] = SWITCHYARD_BINARY_DIR "/tests/cuda/plugins";

Engine &engine() {
  static Engine e = [] {
    Options options = testing::test_options();
    options.plugin_paths = {kEmulated};
    return testing::make_engine(options);
  }();
  return e;
}

class EmulatedCuda : public ::testing::TestWithParam<OpIndex> {};

TEST_P(EmulatedCuda, AgreesWithTheReference) {
  const Registry &registry = *engine().impl().registry;
  const OpSpec &spec = *all_ops()[GetParam()];
  std::map<std::string, int> checks;
  for (const Candidate *c : registry.candidates(GetParam()))
    if (c->backend.rfind("cuda", 0) == 0) checks[c->name] = 0;
  if (checks.empty()) GTEST_SKIP() << "not offered: " << spec.id();
  for (const Shape &shape : spec.conformance_shapes()) {
    const auto problem = spec.make_problem(shape, 20);
    ASSERT_TRUE(problem) << shape.text() << ": " << problem.error().message;
    for (const Candidate *c : registry.candidates(GetParam())) {
      if (checks.count(c->name) == 0) continue;
      const auto verdict = check_problem(*c, registry.reference(), *problem, 1, Guards::canaries);
      if (!verdict) continue;
      ++checks[c->name];
      EXPECT_EQ(*verdict, "") << c->name << ": " << shape.text();
    }
  }
  for (const auto &[name, count] : checks) {
    std::cout << "checks " << name << ": " << count << "\n";
    EXPECT_GT(count, 0) << name;
  }
}

std::string op_name(const ::testing::TestParamInfo<OpIndex> &info) {
  std::string name(all_ops()[info.param]->id());
  std::replace(name.begin(), name.end(), '.', '_');
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, EmulatedCuda,
                         ::testing::Range<OpIndex>(0, static_cast<OpIndex>(all_ops().size())),
                         op_name);

}  // namespace
}  // namespace switchyard
