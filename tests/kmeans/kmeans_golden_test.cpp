// SPDX-License-Identifier: Apache-2.0
// Against scikit-learn in double precision: committed problems, see tests/goldens/kmeans.
#include <gtest/gtest.h>

#include <cmath>

#include "io/npz.hpp"
#include "kmeans/fit.hpp"
#include "plugin_runner.hpp"

namespace switchyard::testing {
namespace {

class KMeansGolden : public ::testing::TestWithParam<const char *> {
 protected:
  KMeansGolden()
      : file_(*NpzReader::open(SWITCHYARD_SOURCE_DIR "/tests/goldens/kmeans/kmeans.npz")) {}
  Tensor get(const std::string &key) { return *file_.read(std::string(GetParam()) + "_" + key); }
  KMeansOptions options() {
    x_ = get("x");
    init_ = get("init");
    KMeansOptions o;
    o.k = init_.shape()[0];
    o.init = "given";
    o.init_centroids = init_;
    o.tol = 0;
    if (file_.has(std::string(GetParam()) + "_weights")) {
      weights_ = get("weights");
      o.sample_weight = weights_;
    }
    return o;
  }
  NpzReader file_;
  Tensor x_, init_, weights_;
};

TEST_P(KMeansGolden, OneStepAgreesWhereGapsExceedRounding) {
  const KMeansOptions o = options();
  auto runner = reference_runner();
  auto labels = kmeans::assign(*runner, x_, o.init_centroids, nullptr);
  ASSERT_TRUE(labels);
  const Tensor want = get("step_labels"), gap = get("gap");
  std::int64_t compared = 0;
  for (std::int64_t i = 0; i < want.elements(); ++i) {
    if (gap.data<double>()[i] < 1e-5) continue;
    ++compared;
    EXPECT_EQ(labels->data<std::int32_t>()[i], want.data<std::int32_t>()[i]) << i;
  }
  EXPECT_GT(compared, want.elements() * 9 / 10);
}

TEST_P(KMeansGolden, OneUpdateGivesTheMeans) {
  KMeansOptions o = options();
  o.max_iter = 1;
  auto fit = kmeans::fit(*reference_runner(), x_, o);
  ASSERT_TRUE(fit) << fit.error().message;
  const Tensor want = get("step_centroids");
  for (std::int64_t i = 0; i < want.elements(); ++i) {
    const double w = want.data<double>()[i];
    EXPECT_NEAR(static_cast<double>(fit->centroids.data<float>()[i]), w,
                std::abs(w) * 1e-7 + 1e-12);
  }
}

TEST_P(KMeansGolden, AFullFitEndsAsWell) {
  KMeansOptions o = options();
  o.max_iter = 50;
  const double want = get("fit_inertia").data<double>()[0];
  auto fit = kmeans::fit(*reference_runner(), x_, o);
  ASSERT_TRUE(fit) << fit.error().message;
  EXPECT_NEAR(fit->inertia, want, 1e-4 * want);
}

INSTANTIATE_TEST_SUITE_P(Cases, KMeansGolden,
                         ::testing::Values("mixture", "wide", "offset", "weighted"),
                         [](const auto &which) { return std::string(which.param); });

}  // namespace
}  // namespace switchyard::testing
