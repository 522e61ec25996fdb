// SPDX-License-Identifier: Apache-2.0
/// The OpenCL plugin beyond what conformance asks of every plugin: memory that stays on the device,
/// compiled programs kept in files, a graphics card's kernels and transfers on whatever device
/// there is, errors that the host survives. Skipped, with the reason, where the plugin is not
/// available.
#include <dlfcn.h>
#include <switchyard/device_memory.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "facade/engine_impl.hpp"
#include "support/engine_support.hpp"
#include "support/kmeans_calls.hpp"

namespace switchyard {
namespace {

namespace fs = std::filesystem;
using testing::make_engine;
using testing::TemporaryDirectory;
using testing::test_options;

/// A variable for the life of an engine.
class Variable {
 public:
  Variable(const char *name, const std::string &value) : name_(name) {
    const char *before = std::getenv(name);
    if (before != nullptr) before_ = before;
    ::setenv(name, value.c_str(), 1);
  }
  ~Variable() {
    if (before_)
      ::setenv(name_, before_->c_str(), 1);
    else
      ::unsetenv(name_);
  }
  Variable(const Variable &) = delete;
  Variable &operator=(const Variable &) = delete;

 private:
  const char *name_;
  std::optional<std::string> before_;
};

Options here() {
  Options options = test_options();
  options.isolation = Isolation::off;
  return options;
}

OpIndex op_of(std::string_view id) {
  OpIndex op = 0;
  while (all_ops()[op]->id() != id) ++op;
  return op;
}

class OpenCl : public ::testing::Test {
 protected:
  void SetUp() override {
    Engine engine = make_engine(here());
    for (const PluginInfo &plugin : engine.plugins())
      if (plugin.id == "opencl" && plugin.status == "loaded")
        return;
      else if (plugin.id == "opencl")
        GTEST_SKIP() << plugin.reason;
    GTEST_SKIP()
        << "the plugin was not built: no OpenCL headers, no loader, or -DSWITCHYARD_OPENCL=OFF";
  }

  /// The first instance's candidates.
  static std::vector<const Candidate *> candidates(Engine &engine, std::string_view op) {
    std::vector<const Candidate *> out;
    for (const Candidate *c : engine.impl().registry->candidates(op_of(op)))
      if (c->plugin_id == "opencl" && (out.empty() || out[0]->backend == c->backend))
        out.push_back(c);
    return out;
  }

  static const sy_device_memory &memory(const Candidate &candidate) {
    void *plugin = dlopen(candidate.path.c_str(), RTLD_NOW | RTLD_LOCAL);
    const auto *api = static_cast<const sy_plugin *>(dlsym(plugin, SY_PLUGIN_SYMBOL));
    return *static_cast<const sy_device_memory *>(api->get_extension(SY_DEVICE_MEMORY_EXTENSION));
  }

  static sy_device_totals totals(const Candidate &candidate) {
    sy_device_totals out{};
    out.struct_size = sizeof(out);
    memory(candidate).totals(candidate.instance.get(), &out);
    return out;
  }

  /// Every `step`th conformance problem of every operation on the plugin's kernels. The number of
  /// checks.
  static int check_some(Engine &engine, std::size_t step) {
    int checks = 0;
    const Registry &registry = *engine.impl().registry;
    for (OpIndex op = 0; op < all_ops().size(); ++op) {
      const auto shapes = all_ops()[op]->conformance_shapes();
      for (std::size_t i = 0; i < shapes.size(); i += step) {
        const auto problem = all_ops()[op]->make_problem(shapes[i], 7);
        if (!problem) continue;
        for (const Candidate *c : candidates(engine, all_ops()[op]->id())) {
          const auto verdict =
              check_problem(*c, registry.reference(), *problem, 2, Guards::canaries);
          if (!verdict) continue;
          ++checks;
          EXPECT_EQ(*verdict, "") << c->name;
        }
      }
    }
    return checks;
  }
};

TEST_F(OpenCl, ChainsStayOnTheDevice) {
  Engine engine = make_engine(here());
  const auto quantizers = candidates(engine, SY_OP_QUANTIZE);
  const sy_device_memory &device = memory(*quantizers[0]);
  sy_instance *instance = quantizers[0]->instance.get();
  constexpr std::int64_t kValues = 64 * 32;
  std::vector<float> x(kValues), y(kValues);
  for (std::int64_t i = 0; i < kValues; ++i)
    x[static_cast<std::size_t>(i)] = static_cast<float>(i * 7919 % 1013) / 500.0f - 1.0f;
  sy_error error{};
  error.struct_size = sizeof(error);
  void *on_device[2] = {};
  ASSERT_EQ(device.allocate(instance, kValues * 4, &on_device[0], &error), SY_OK) << error.message;
  ASSERT_EQ(device.allocate(instance, kValues / 32 * 34, &on_device[1], &error), SY_OK);
  ASSERT_EQ(device.upload(instance, on_device[0], 0, x.data(), kValues * 4, &error), SY_OK);

  const auto there = [&](void *handle, DType dtype, std::int64_t n) {
    sy_tensor t{};
    t.handle = handle;
    t.byte_size = static_cast<std::uint64_t>(n) * dtype.bits / 8;
    t.rank = 1;
    t.shape[0] = n;
    t.strides[0] = 1;
    t.dtype = dtype;
    t.device_kind = device.device_kind;
    return t;
  };
  const sy_tensor values = there(on_device[0], dtypes::f32, kValues);
  const sy_tensor codes = there(on_device[1], dtypes::u8, kValues / 32 * 34);
  sy_quantize_params params{};
  params.struct_size = sizeof(params);
  params.format = SY_QUANT_Q8_0;
  const auto run = [&](std::string_view op, CallFrame &frame) {
    frame.params(params);
    for (const Candidate *c : candidates(engine, op))
      if (c->supports(frame.call(), nullptr)) return invoke(*c, frame.call(), &error);
    return static_cast<std::int32_t>(SY_E_UNSUPPORTED);
  };
  CallFrame quantize(SY_QUANTIZE_INPUTS, SY_QUANTIZE_OUTPUTS);
  quantize.input(SY_QUANTIZE_IN_X, TensorView(values));
  quantize.output(SY_QUANTIZE_OUT_CODES, TensorView(codes));
  ASSERT_EQ(run(SY_OP_QUANTIZE, quantize), SY_OK) << error.message;
  CallFrame dequantize(SY_DEQUANTIZE_INPUTS, SY_DEQUANTIZE_OUTPUTS);
  dequantize.input(SY_DEQUANTIZE_IN_CODES, TensorView(codes));
  dequantize.output(SY_DEQUANTIZE_OUT_Y, TensorView(y.data(), {kValues}));
  ASSERT_EQ(run(SY_OP_DEQUANTIZE, dequantize), SY_OK) << error.message;

  Options options = here();
  options.pin = {{"*", "reference"}};
  Engine reference = make_engine(options);
  const auto q = reference.quantize({x.data(), {kValues}}, {.format = "q8_0"});
  ASSERT_TRUE(q);
  std::vector<std::byte> bytes(q->codes.bytes());
  ASSERT_EQ(device.download(instance, on_device[1], 0, bytes.data(), bytes.size(), &error), SY_OK);
  EXPECT_EQ(std::memcmp(bytes.data(), q->codes.data(), bytes.size()), 0);
  const auto want = reference.dequantize(*q);
  ASSERT_TRUE(want);
  EXPECT_EQ(std::memcmp(y.data(), want->data(), kValues * 4), 0);
  for (void *handle : on_device) device.release(instance, handle);
  const sy_device_totals done = totals(*quantizers[0]);
  EXPECT_GE(done.kernels, 2u);
  EXPECT_GT(done.kernel_ns, 0u);
  EXPECT_EQ(done.bytes_to_device, std::uint64_t{kValues} * 4);
}

TEST_F(OpenCl, MoreMemoryThanThereIsIsAnError) {
  Engine engine = make_engine(here());
  const Candidate &c = *candidates(engine, SY_OP_QUANTIZE)[0];
  void *handle = nullptr;
  sy_error error{};
  error.struct_size = sizeof(error);
  EXPECT_EQ(memory(c).allocate(c.instance.get(), std::uint64_t{1} << 60, &handle, &error),
            SY_E_OUT_OF_MEMORY);
  EXPECT_NE(std::string(error.message), "");
  ASSERT_EQ(memory(c).allocate(c.instance.get(), 4096, &handle, &error), SY_OK);
  memory(c).release(c.instance.get(), handle);
}

Options pinned() {
  Options options = here();
  options.pin = {{"*", "opencl"}};
  return options;
}

TEST_F(OpenCl, ProgramsAreCompiledOnceAndCorruptOnesAgain) {
  const TemporaryDirectory directory;
  const Variable cache("XDG_CACHE_HOME", directory.path());
  const Variable as("SWITCHYARD_OPENCL_AS", "gpu");  // PoCL keeps programs for processors itself
  const auto once = [&] {
    Engine engine = make_engine(pinned());
    testing::AssignCall call(300);
    const Candidate &c = *candidates(engine, SY_OP_KMEANS_ASSIGN)[0];
    EXPECT_EQ(invoke(c, call.frame.call(), nullptr), SY_OK);
    EXPECT_EQ(call.labels(), testing::reference_labels(300));
    return totals(c);
  };
  const sy_device_totals first = once(), second = once();
  EXPECT_EQ(first.programs_built, 1u);
  EXPECT_EQ(second.programs_built, 0u);
  EXPECT_EQ(second.programs_cached, 1u);
  std::cout << "first start: " << static_cast<double>(first.build_ns) / 1e6
            << " ms to compile; second: " << static_cast<double>(second.build_ns) / 1e6 << " ms\n";
  int files = 0;
  for (const auto &entry : fs::recursive_directory_iterator(directory.path()))
    if (entry.path().extension() == ".bin" && entry.path().parent_path().filename() == "opencl") {
      std::ofstream(entry.path(), std::ios::binary | std::ios::app) << "rot";
      ++files;
    }
  EXPECT_EQ(files, 1);
  EXPECT_EQ(once().programs_built, 1u);
  EXPECT_EQ(once().programs_cached, 1u);
}

TEST_F(OpenCl, ACancelledCallLeavesTheDeviceUsable) {
  Engine engine = make_engine(pinned());
  testing::AssignCall call(60'000, 32, 64);
  call.frame.call().progress = [](void *, double) { return 1; };
  const Candidate &c = *candidates(engine, SY_OP_KMEANS_ASSIGN)[0];
  EXPECT_EQ(invoke(c, call.frame.call(), nullptr), SY_E_CANCELLED);
  call.frame.call().progress = nullptr;
  EXPECT_EQ(invoke(c, call.frame.call(), nullptr), SY_OK);
  testing::AssignCall want(60'000, 32, 64);
  Options options = here();
  options.pin = {{"*", "reference"}};
  Engine reference = make_engine(options);
  ASSERT_EQ(reference.run(SY_OP_KMEANS_ASSIGN, want.frame.call()), SY_OK);
  EXPECT_EQ(call.labels(), want.labels());
}

TEST_F(OpenCl, BadValuesAreNamedAsTheReferenceNamesThem) {
  Options options = here();
  options.pin = {{"*", "reference"}};
  Engine reference = make_engine(options), engine = make_engine(pinned());
  for (const char *format : {"q4_0", "mlx_affine4", "ternary", "int8", "tern2"})
    for (const float bad : {NAN, INFINITY, 3e38f}) {
      std::vector<float> x(64 * 128, 0.5f);
      x[1000] = x[5000] = bad;
      if (bad == 3e38f) x[1001] = -bad;
      const QuantizeOptions o{.format = format};
      const auto want = reference.quantize({x.data(), {64, 128}}, o);
      const auto got = engine.quantize({x.data(), {64, 128}}, o);
      ASSERT_EQ(got.has_value(), want.has_value()) << format << " " << bad;
      if (got) continue;
      EXPECT_EQ(got.error().code, want.error().code) << format << " " << bad;
      EXPECT_EQ(got.error().index, want.error().index) << format << " " << bad;
    }
}

TEST_F(OpenCl, AForkedChildIsToldThatTheDeviceIsGone) {
  Engine engine = make_engine(pinned());
  testing::AssignCall call(300);
  const Candidate &c = *candidates(engine, SY_OP_KMEANS_ASSIGN)[0];
  ASSERT_EQ(invoke(c, call.frame.call(), nullptr), SY_OK);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(20);
    const bool refused = !c.supports(call.frame.call(), nullptr);
    _exit(refused && invoke(c, call.frame.call(), nullptr) == SY_E_DEVICE_LOST ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_EQ(invoke(c, call.frame.call(), nullptr), SY_OK) << "the parent goes on";
}

TEST_F(OpenCl, CopiesThroughPinnedMemoryGiveTheSame) {
  const Variable copies("SWITCHYARD_OPENCL_ZERO_COPY", "0");
  Engine engine = make_engine(here());
  EXPECT_GT(check_some(engine, 149), 8);
  const sy_device_totals done = totals(*candidates(engine, SY_OP_QUANTIZE)[0]);
  EXPECT_GT(done.bytes_to_device, 0u);
  EXPECT_GT(done.bytes_from_device, 0u);
}

TEST_F(OpenCl, MetricsTellKernelsTransfersAndBuildsApart) {
  const Variable copies("SWITCHYARD_OPENCL_ZERO_COPY", "0");
  Engine engine = make_engine(pinned());
  EXPECT_TRUE(engine.metrics().devices.empty()) << "nothing has run";
  const std::vector<float> x(64 * 128, 0.5f);
  const auto q = engine.quantize({x.data(), {64, 128}}, {.format = "q8_0"});
  ASSERT_TRUE(q) << q.error().text();
  const Metrics metrics = engine.metrics();
  ASSERT_EQ(metrics.devices.size(), 1u);
  const DeviceMetrics &device = metrics.devices.begin()->second;
  EXPECT_GE(device.kernels, 1u);
  EXPECT_GT(device.kernel_ms, 0);
  EXPECT_GT(device.transfer_ms, 0);
  EXPECT_GE(device.bytes_to_device, x.size() * 4);
  EXPECT_GE(device.bytes_from_device, q->codes.bytes());
  EXPECT_GE(device.programs_built + device.programs_cached, 1u);
  EXPECT_GT(device.build_ms, 0);
  EXPECT_NE(metrics.json().find("\"transfer_ms\""), std::string::npos);
}

TEST_F(OpenCl, TheKernelsForGraphicsCardsGiveTheSame) {
  const Variable as("SWITCHYARD_OPENCL_AS", "gpu");
  Engine engine = make_engine(here());
  EXPECT_GT(check_some(engine, 307), 8);
}

/// For slow devices that look at every access (oclgrind.sh): one small problem of each kind.
TEST_F(OpenCl, TinyProblemsOfEachKernel) {
  const bool all = std::getenv("SWITCHYARD_OPENCL_TINY") != nullptr;
  Engine engine = make_engine(here());
  std::vector<std::pair<std::string_view, std::string>> problems;
  for (const char *format :
       {"q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q6_k", "tq1_0", "tq2_0", "q2_0",
        "mxfp4_ggml", "mxfp4", "mlx_affine3", "mlx_affine4", "ternary", "tern2", "i2_s", "int8"}) {
    const std::string name = format;
    const std::string group = name.starts_with("mlx") || name == "tern2" ? ",group_size=32" : "";
    for (const std::string_view op : {SY_OP_QUANTIZE, SY_OP_DEQUANTIZE})
      problems.emplace_back(op, "n=768,rows=3,dtype=f32,format=" + name + group);
  }
  for (const char *shape : {"n=37,d=3,k=5,dtype=f32", "n=37,d=19,k=18,dtype=f32"})
    for (const std::string_view op : {SY_OP_KMEANS_STEP, SY_OP_KMEANS_ASSIGN})
      problems.emplace_back(op, shape);
  for (const char *shape : {"n=70,d=3,k=4,dtype=f32", "n=1100,d=19,k=3,weighted=1,dtype=f32"})
    problems.emplace_back(SY_OP_KMEANS_SEED, shape);
  for (const char *shape :
       {"b=1,hq=2,hkv=1,lq=3,lkv=21,d=5,lse=1,dtype=f32",
        "b=1,hq=2,hkv=1,lq=9,lkv=21,d=5,alibi=1,causal=bottom_right,dtype=bf16",
        "b=2,hq=3,hkv=1,lq=6,lkv=19,d=18,lens=1,window=4,lse=1,dtype=f32",
        "b=1,hq=2,hkv=1,lq=1,lkv=520,d=4,sinks=1,lse=1,dtype=f32",
        "b=1,hq=2,hkv=2,lq=5,lkv=9,d=17,mask=bool,softcap=5,causal=bottom_right,dtype=f16",
        "b=2,hq=2,hkv=1,lq=3,lkv=21,d=5,page=4,causal=bottom_right,lse=1,dtype=f32",
        "b=1,hq=2,hkv=1,lq=9,lkv=50,d=32,kv=q8,window=7,keep=3,causal=bottom_right,dtype=bf16",
        "b=2,hq=2,hkv=1,lq=1,lkv=40,d=64,kv=q4,page=16,causal=bottom_right,dtype=f16",
        "b=1,hq=2,hkv=1,lq=9,lkv=70,d=64,kv=q4_f32,window=9,keep=2,gap=5,alibi=1,"
        "causal=bottom_right,dtype=f32"})
    problems.emplace_back(SY_OP_ATTENTION, shape);
  int checks = 0;
  for (const auto &[op, text] : problems) {
    if (!all && checks >= 4) break;  // conformance has them all
    const auto shape = Shape::parse(text);
    ASSERT_TRUE(shape) << text;
    const auto problem = all_ops()[op_of(op)]->make_problem(*shape, 3);
    ASSERT_TRUE(problem) << text << ": " << problem.error().message;
    for (const Candidate *c : candidates(engine, op)) {
      const auto verdict =
          check_problem(*c, engine.impl().registry->reference(), *problem, 2, Guards::canaries);
      if (!verdict) continue;
      ++checks;
      EXPECT_EQ(*verdict, "") << c->name;
    }
  }
  EXPECT_GE(checks, 4);
}

}  // namespace
}  // namespace switchyard
