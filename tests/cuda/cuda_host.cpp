// SPDX-License-Identifier: Apache-2.0
/// The CUDA plugin's host side: devices, memory, states, failures.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>
#include <random>

#include <switchyard/ops/kmeans.h>
#include <switchyard/ops/quantize.h>

#include "emulated_plugin.hpp"

namespace switchyard::testing {
namespace {

constexpr sy_dtype kF32 = {SY_TYPE_FLOAT, 32, 0}, kU8 = {SY_TYPE_UINT, 8, 0},
                   kI32 = {SY_TYPE_INT, 32, 0}, kI64 = {SY_TYPE_INT, 64, 0},
                   kF64 = {SY_TYPE_FLOAT, 64, 0};

std::vector<float> normal(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> values;
  std::vector<float> out(n);
  std::generate(out.begin(), out.end(), [&] { return values(random); });
  return out;
}

/// Q8_0 of 64 x 96 values.
struct Quantize {
  static constexpr std::int64_t kRows = 64, kColumns = 96, kBytes = kRows * kColumns / 32 * 34;
  std::vector<float> x = normal(kRows * kColumns, 3);
  std::vector<std::uint8_t> codes = std::vector<std::uint8_t>(kBytes, 0xEE);
  sy_quantize_params params{};
  sy_tensor in = tensor_of(x.data(), {kRows, kColumns}, kF32);
  sy_tensor out = tensor_of(codes.data(), {kBytes}, kU8);
  const sy_tensor *inputs[1] = {&in};
  const sy_tensor *outputs[3] = {&out, nullptr, nullptr};

  Quantize() {
    params.struct_size = sizeof params;
    params.format = SY_QUANT_Q8_0;
  }
  std::int32_t run(const Instance &instance, sy_error &error) {
    const sy_kernel *k = instance.kernel(SY_OP_QUANTIZE, "q8_0");
    const sy_call call = call_of(inputs, 1, outputs, 3, &params, sizeof params);
    const std::int32_t supported = k->supports(k, instance.get(), &call, &error);
    return supported != SY_OK ? supported : k->run(k, instance.get(), &call, &error);
  }
};

TEST(CudaHost, ADeviceIsDescribed) {
  sy_error error = no_error();
  ASSERT_EQ(emulated_plugin()->probe(nullptr, &error), SY_OK) << error.message;
  sy_device_info info{};
  info.struct_size = sizeof info;
  ASSERT_EQ(emulated_plugin()->device_info(nullptr, 0, &info, &error), SY_OK);
  EXPECT_EQ(info.kind, SY_DEVICE_CUDA);
  EXPECT_STREQ(info.name, "emulated device");
  EXPECT_STREQ(info.runtime_id, "CUDA driver 13.0, sm_90");
  EXPECT_EQ(info.memory_bytes, 1u << 30);
  EXPECT_EQ(emulated_plugin()->device_info(nullptr, 7, &info, &error), SY_E_INVALID_ARGUMENT);
}

TEST(CudaHost, WithoutDevicesTheProbeSaysSo) {
  setenv("SWITCHYARD_EMULATED_DEVICES", "0", 1);
  sy_error error = no_error();
  EXPECT_EQ(emulated_plugin()->probe(nullptr, &error), SY_E_HARDWARE);
  EXPECT_STREQ(error.message, "the NVIDIA driver reports no device");
  EXPECT_EQ(emulated_plugin()->device_count(nullptr), 0u);
  unsetenv("SWITCHYARD_EMULATED_DEVICES");
}

TEST(CudaHost, OptionsAreRefused) {
  const sy_option option{"speed", "11"};
  const sy_option *options[] = {&option};
  sy_instance *instance = nullptr;
  sy_error error = no_error();
  EXPECT_EQ(emulated_plugin()->create(nullptr, 0, options, 1, &instance, &error),
            SY_E_INVALID_ARGUMENT);
  EXPECT_NE(std::strstr(error.message, "speed"), nullptr);
}

TEST(CudaHost, EveryFailedAllocationIsAnErrorAndTheNextCallWorks) {
  Instance instance;
  Quantize good;
  sy_error error = no_error();
  ASSERT_EQ(good.run(instance, error), SY_OK) << error.message;
  int failures = 0;
  for (int n = 1; n < 20; ++n) {
    Quantize q;
    std::int32_t status = SY_OK;
    {
      // The one after it is the second try, with an empty pool.
      const Fault fault("cuMemAllocAsync", n, 2);
      status = q.run(instance, error);
    }
    EXPECT_EQ(status, SY_OK) << "a second try is made: " << error.message;
    EXPECT_EQ(q.codes, good.codes);
    for (const char *function : {"cuMemcpyHtoDAsync", "cuModuleGetFunction"}) {
      Instance other;
      const Fault fault(function, n, 2);
      Quantize r;
      status = r.run(other, error);
      if (status == SY_OK) continue;
      ++failures;
      EXPECT_EQ(status, SY_E_OUT_OF_MEMORY);
      EXPECT_NE(std::strstr(error.message, "CUDA_ERROR_OUT_OF_MEMORY"), nullptr) << error.message;
      Quantize again;
      EXPECT_EQ(again.run(other, error), SY_OK) << error.message;
      EXPECT_EQ(again.codes, good.codes);
    }
  }
  EXPECT_GE(failures, 3);
}

TEST(CudaHost, EveryFailureWhileStartingIsAnError) {
  for (const char *function :
       {"cuDevicePrimaryCtxRetain", "cuCtxPushCurrent", "cuStreamCreate", "cuEventCreate",
        "cuMemAllocHost", "cuDeviceGetDefaultMemPool", "cuModuleLoadData"}) {
    Instance instance;
    sy_error error = no_error();
    Quantize q, again;
    {
      const Fault fault(function, 1, 2);
      EXPECT_EQ(q.run(instance, error), SY_E_OUT_OF_MEMORY) << function;
    }
    EXPECT_EQ(again.run(instance, error), SY_OK) << function << ": " << error.message;
  }
}

TEST(CudaHost, ALostDeviceStaysLost) {
  Instance instance;
  sy_error error = no_error();
  Quantize q;
  {
    const Fault fault("cuLaunchKernel", 1, 700);  // illegal address
    EXPECT_EQ(q.run(instance, error), SY_E_DEVICE_LOST);
  }
  EXPECT_NE(std::strstr(error.message, "quantize_q8_0 failed"), nullptr) << error.message;
  EXPECT_EQ(q.run(instance, error), SY_E_DEVICE_LOST);
  Instance other;  // made anew
  EXPECT_EQ(q.run(other, error), SY_OK) << error.message;
}

TEST(CudaHost, CancellingEndsACall) {
  Instance instance;
  Quantize q;
  const sy_kernel *k = instance.kernel(SY_OP_QUANTIZE, "q8_0");
  sy_call call = call_of(q.inputs, 1, q.outputs, 3, &q.params, sizeof q.params);
  call.progress = [](void *, double) -> std::int32_t { return 1; };
  sy_error error = no_error();
  EXPECT_EQ(k->run(k, instance.get(), &call, &error), SY_E_CANCELLED);
}

TEST(CudaHost, TensorsOnTheDeviceAreUsedWhereTheyLie) {
  Instance instance;
  const auto *memory = static_cast<const sy_device_memory *>(
      emulated_plugin()->get_extension(SY_DEVICE_MEMORY_EXTENSION));
  ASSERT_NE(memory, nullptr);
  EXPECT_EQ(emulated_plugin()->get_extension("switchyard.unknown/1"), nullptr);
  Quantize host, device;
  sy_error error = no_error();
  ASSERT_EQ(host.run(instance, error), SY_OK);
  // Rows 7 elements apart from each other, 4 bytes into the block: no piece of 16 bytes fits.
  const std::int64_t stride = Quantize::kColumns + 7;
  std::vector<float> padded(static_cast<std::size_t>(stride * Quantize::kRows + 1), NAN);
  for (std::int64_t r = 0; r < Quantize::kRows; ++r)
    std::copy_n(host.x.begin() + r * Quantize::kColumns, Quantize::kColumns,
                padded.begin() + 1 + r * stride);
  void *x = nullptr, *codes = nullptr;
  ASSERT_EQ(memory->allocate(instance.get(), padded.size() * 4, &x, &error), SY_OK);
  ASSERT_EQ(memory->allocate(instance.get(), Quantize::kBytes + 3, &codes, &error), SY_OK);
  ASSERT_EQ(memory->upload(instance.get(), x, 0, padded.data(), padded.size() * 4, &error), SY_OK);
  for (auto [t, handle, offset] : {std::tuple{&device.in, x, 4u}, {&device.out, codes, 3u}}) {
    t->handle = handle;
    t->byte_offset = offset;
    t->device_kind = SY_DEVICE_CUDA;
  }
  device.in.strides[0] = stride;
  ASSERT_EQ(device.run(instance, error), SY_OK) << error.message;
  EXPECT_EQ(device.codes[0], 0xEE);  // nothing came to the host
  ASSERT_EQ(
      memory->download(instance.get(), codes, 3, device.codes.data(), Quantize::kBytes, &error),
      SY_OK);
  EXPECT_EQ(device.codes, host.codes);
  device.in.device_index = 5;
  EXPECT_EQ(device.run(instance, error), SY_E_UNSUPPORTED);
  sy_device_totals totals{};
  totals.struct_size = sizeof totals;
  memory->totals(instance.get(), &totals);
  EXPECT_EQ(totals.kernels, 2u);
  EXPECT_EQ(totals.bytes_to_device, host.x.size() * 4 + 8 + padded.size() * 4 + 8);
  memory->release(instance.get(), x);
  memory->release(instance.get(), codes);
}

/// One k-means problem, its outputs, and Lloyd's update between two steps.
struct Step {
  std::int64_t n, d, k;
  std::vector<float> x, centroids, weights;
  std::vector<std::int32_t> shifts, labels, previous;
  std::vector<std::int64_t> sums, counts, totals, changed{0};
  std::vector<double> partials;
  std::vector<float> distances;
  bool first = true;

  Step(std::int64_t rows, std::int64_t columns, std::int64_t clusters, bool weighted)
      : n(rows), d(columns), k(clusters) {
    const auto size = [](std::int64_t v) { return static_cast<std::size_t>(v); };
    x = normal(size(n * d), 5);
    for (std::int64_t i = 0; i < n * d; ++i)
      x[size(i)] += static_cast<float>(i / d * 2654435761u % static_cast<unsigned>(k)) + 1000.0f;
    centroids.assign(x.begin(), x.begin() + k * d);
    if (weighted)
      for (std::int64_t i = 0; i < n; ++i) weights.push_back(0.25f * static_cast<float>(i % 7));
    shifts.assign(size(d), 30);
    labels.resize(size(n));
    sums.resize(size(k * d));
    counts.resize(size(k));
    totals.resize(size(weighted ? k : 0));
    partials.resize(size((n + 8191) / 8192));
    distances.resize(size(n));
  }

  /// f(call) with this problem's call.
  template <class F>
  std::int32_t with_call(F f) {
    sy_kmeans_params params{sizeof(sy_kmeans_params), 0, 20, 0, 0, 0};
    sy_tensor t[] = {tensor_of(x.data(), {n, d}, kF32), tensor_of(centroids.data(), {k, d}, kF32),
                     tensor_of(weights.data(), {n}, kF32), tensor_of(shifts.data(), {d}, kI32),
                     tensor_of(previous.data(), {n}, kI32)};
    sy_tensor o[] = {tensor_of(labels.data(), {n}, kI32),
                     tensor_of(sums.data(), {k, d}, kI64),
                     tensor_of(counts.data(), {k}, kI64),
                     tensor_of(totals.data(), {k}, kI64),
                     tensor_of(partials.data(), {static_cast<std::int64_t>(partials.size())}, kF64),
                     tensor_of(changed.data(), {1}, kI64),
                     tensor_of(distances.data(), {n}, kF32)};
    const sy_tensor *in[] = {&t[0], &t[1], weights.empty() ? nullptr : &t[2], &t[3],
                             first ? nullptr : &t[4]};
    const sy_tensor *out[] = {&o[0], &o[1], &o[2], totals.empty() ? nullptr : &o[3],
                              &o[4], &o[5], &o[6]};
    sy_call call = call_of(in, 5, out, 7, &params, sizeof params);
    return f(call);
  }

  void update() {
    for (std::int64_t j = 0; j < k; ++j)
      for (std::int64_t m = 0; m < d; ++m) {
        const auto count =
            static_cast<double>(totals.empty() ? counts[static_cast<std::size_t>(j)] << 20
                                               : totals[static_cast<std::size_t>(j)]);
        if (count > 0)
          centroids[static_cast<std::size_t>(j * d + m)] =
              static_cast<float>(static_cast<double>(sums[static_cast<std::size_t>(j * d + m)]) *
                                 0x1p-30 / (count * 0x1p-20));
      }
    previous = labels;
    first = false;
  }
  bool operator==(const Step &o) const {
    return labels == o.labels && sums == o.sums && counts == o.counts && totals == o.totals &&
           changed == o.changed && partials == o.partials && distances == o.distances;
  }
};

TEST(CudaHost, KMeansGivesTheSameBitsWithAStateAndWithout) {
  for (const auto &[n, d, k, weighted] :
       {std::tuple{700, 5, 20, true}, {500, 70, 33, false}, {300, 3, 4, false}}) {
    Instance instance;
    const sy_kernel *kernel = instance.kernel(SY_OP_KMEANS_STEP);
    Step kept(n, d, k, weighted), single(n, d, k, weighted);
    void *state = nullptr;
    sy_error error = no_error();
    ASSERT_EQ(kept.with_call([&](sy_call &call) {
      return kernel->prepare(kernel, instance.get(), &call, 0b1101, &state, &error);
    }),
              SY_OK);
    ASSERT_NE(state, nullptr);
    for (int iteration = 0; iteration < 4; ++iteration) {
      if (iteration == 2) {  // a failed step leaves no half-added sums behind
        const Fault fault("cuGraphLaunch", 1, 2);
        EXPECT_EQ(kept.with_call([&](sy_call &call) {
          call.state = state;
          return kernel->run(kernel, instance.get(), &call, &error);
        }),
                  SY_E_OUT_OF_MEMORY);
      }
      ASSERT_EQ(kept.with_call([&](sy_call &call) {
        call.state = state;
        return kernel->run(kernel, instance.get(), &call, &error);
      }),
                SY_OK)
          << error.message;
      ASSERT_EQ(single.with_call([&](sy_call &call) {
        return kernel->run(kernel, instance.get(), &call, &error);
      }),
                SY_OK)
          << error.message;
      EXPECT_EQ(kept, single) << "iteration " << iteration << ", d=" << d;
      kept.update();
      single.update();
    }
    kernel->release(kernel, instance.get(), state);
  }
}

TEST(CudaHost, AStateNeedsConstantRows) {
  Instance instance;
  const sy_kernel *kernel = instance.kernel(SY_OP_KMEANS_STEP);
  Step step(40, 3, 2, false);
  void *state = &step;
  EXPECT_EQ(step.with_call([&](sy_call &call) {
    return kernel->prepare(kernel, instance.get(), &call, 0b0010, &state, nullptr);
  }),
            SY_OK);
  EXPECT_EQ(state, nullptr);
}

}  // namespace
}  // namespace switchyard::testing
