// SPDX-License-Identifier: Apache-2.0
/// Hosts that changed the processor's state, and plugins of many engines.
#include <fenv.h>

#include <filesystem>
#include <fstream>

#include "facade/engine_impl.hpp"
#include "host/float_state.hpp"
#include "loader/plugin.hpp"
#include "support/engine_support.hpp"
#include "support/kmeans_calls.hpp"

namespace switchyard {
namespace {

using testing::AssignCall;
using testing::make_engine;
using testing::reference_labels;
using testing::test_options;

/// Operations whose data make every exception: overflow to infinity, 0/0-like rows, subnormals.
void run_everything(Engine &engine) {
  std::vector<float> values(64 * 64);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = std::ldexp(static_cast<float>(i % 13) - 6.0f, static_cast<int>(i % 97) - 60);
  const TensorView x(values.data(), {64, 64}), heads(values.data(), {1, 1, 64, 64});
  const auto quantized = engine.quantize(x, {.format = "mlx_affine4"});
  ASSERT_TRUE(quantized) << quantized.error().message;
  ASSERT_TRUE(engine.dequantize(*quantized));
  ASSERT_TRUE(engine.attention(heads, heads, heads));
  ASSERT_TRUE(engine.kmeans(x, {.k = 3, .max_iter = 4}));
}

TEST(HostState, UnmaskedExceptionsDoNotTrapInKernels) {
  const auto want = reference_labels(777);
  Engine engine = make_engine();
  feclearexcept(FE_ALL_EXCEPT);
  feenableexcept(FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW);
  AssignCall call(777);
  const auto status = engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call());
  run_everything(engine);
  const int still = fegetexcept();
  fedisableexcept(FE_ALL_EXCEPT);
  EXPECT_EQ(status, SY_OK);
  EXPECT_EQ(call.labels(), want);
  EXPECT_EQ(still, FE_INVALID | FE_DIVBYZERO | FE_OVERFLOW) << "the host's state was not restored";
}

TEST(HostState, RoundingDownChangesNoBit) {
  std::vector<float> values(64 * 64);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>((i * 7919) % 1013) / 7.0f;
  const TensorView x(values.data(), {64, 64});
  Engine engine = make_engine();
  const auto fit = [&] { return engine.kmeans(x, {.k = 5, .max_iter = 6, .seed = 3}); };
  const auto codes = [&] { return engine.quantize(x, {.format = "mlx_affine4"}); };
  const auto fit_before = fit();
  const auto codes_before = codes();
  fesetround(FE_DOWNWARD);
  const auto fit_down = fit();
  const auto codes_down = codes();
  fesetround(FE_TONEAREST);
  ASSERT_TRUE(fit_before && fit_down && codes_before && codes_down);
  EXPECT_EQ(fit_before->inertia, fit_down->inertia);
  EXPECT_EQ(std::memcmp(fit_before->centroids.data(), fit_down->centroids.data(),
                        fit_before->centroids.bytes()),
            0);
  EXPECT_EQ(std::memcmp(codes_before->codes.data(), codes_down->codes.data(),
                        codes_before->codes.bytes()),
            0);
}

std::int64_t threads_now() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"),
                       std::filesystem::directory_iterator());
}

TEST(ManyEngines, AHundredWithThreadedPluginsAtWorkLeaveNoThreadsBehind) {
  std::string threaded;
  {
    Engine lister = make_engine();
    for (const auto &c : lister.impl().registry->all())
      if ((c->kernel->traits & SY_TRAIT_OWN_THREADS) != 0 &&
          all_ops()[c->op]->id() == SY_OP_KMEANS_ASSIGN)
        threaded = c->backend;
  }
  if (threaded.empty()) GTEST_SKIP() << "no plugin with threads of its own is loaded";
  Options options = test_options();
  options.pin = {{"*", threaded}};
  const auto one = [&] {
    Engine engine = make_engine(options);
    AssignCall call(50'000, 8, 8);
    ASSERT_EQ(engine.run(SY_OP_KMEANS_ASSIGN, call.frame.call()), SY_OK);
  };
  for (int i = 0; i < 3; ++i) one();
  const auto before = threads_now();
  for (int i = 0; i < 100; ++i) one();
  EXPECT_LE(threads_now(), before);
}

TEST(Loader, AFileExchangedBetweenCheckAndLoadIsRefused) {
  const testing::TemporaryDirectory directory;
  namespace fs = std::filesystem;
  const std::string path = directory.path() + "/a.so", other = directory.path() + "/b.so";
  fs::copy(testing::fixture_directory("good") + "/switchyard_good.so", path);
  fs::copy(testing::fixture_directory("good") + "/switchyard_good.so", other);
  const auto checked = check_plugin_file(path);
  ASSERT_TRUE(checked) << checked.error().message;
  fs::rename(other, path);
  const auto mapped = map_plugin(*checked);
  ASSERT_FALSE(mapped);
  EXPECT_NE(mapped.error().message.find("exchanged"), std::string::npos) << mapped.error().message;
}

TEST(Loader, ASymbolicLinkIsFollowedToWhatIsCheckedOnce) {
  const testing::TemporaryDirectory directory, elsewhere;
  namespace fs = std::filesystem;
  const std::string real = elsewhere.path() + "/real.so", link = directory.path() + "/link.so";
  fs::copy(testing::fixture_directory("good") + "/switchyard_good.so", real);
  fs::create_symlink(real, link);
  const auto checked = check_plugin_file(link);
  ASSERT_TRUE(checked) << checked.error().message;
  EXPECT_EQ(checked->path, fs::canonical(real).string());
  // The link now leads elsewhere: what was checked is what is loaded.
  fs::remove(link);
  fs::create_symlink(testing::fixture_directory("missing_symbol") + "/switchyard_missing_symbol.so",
                     link);
  EXPECT_TRUE(map_plugin(*checked));
  // A link to a file that others may write is refused like the file.
  fs::permissions(real, fs::perms::others_write, fs::perm_options::add);
  fs::remove(link);
  fs::create_symlink(real, link);
  EXPECT_FALSE(check_plugin_file(link));
}

}  // namespace
}  // namespace switchyard
