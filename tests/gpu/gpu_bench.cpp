// SPDX-License-Identifier: Apache-2.0
/// The kernels of a device plugin by themselves: right on small problems, and how fast on large
/// ones whose arrays stay on the device. Needs nothing but the plugins' files.
///
///     gpu_bench CUDA_PLUGIN REFERENCE_PLUGIN [GB/s of a copy on the device] [TFLOP/s of a bf16
///     GEMM]
#include <dlfcn.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include <switchyard/device_memory.h>
#include <switchyard/ops/attention.h>
#include <switchyard/ops/kmeans.h>
#include <switchyard/ops/quantize.h>

namespace {

constexpr sy_dtype kF32{SY_TYPE_FLOAT, 32, 0}, kBf16{SY_TYPE_BFLOAT, 16, 0},
    kU8{SY_TYPE_UINT, 8, 0}, kU32{SY_TYPE_UINT, 32, 0}, kI8{SY_TYPE_INT, 8, 0},
    kI32{SY_TYPE_INT, 32, 0}, kI64{SY_TYPE_INT, 64, 0}, kF64{SY_TYPE_FLOAT, 64, 0};
int failures = 0;
std::int64_t shrink = 1;

[[noreturn]] void stop(const std::string &why) {
  std::printf("gpu_bench: %s\n", why.c_str());
  std::exit(1);
}

const sy_host &host() {
  static const sy_host h = [] {
    sy_host out{};
    out.struct_size = sizeof out;
    out.abi_major = SY_ABI_MAJOR;
    out.log = [](const sy_host *, std::int32_t, const char *) {};
    out.clock_ns = [](const sy_host *) -> std::uint64_t { return 0; };
    out.amx_state = [](const sy_host *) -> std::int32_t { return SY_E_UNSUPPORTED; };
    out.parallel_for = [](const sy_host *, std::uint64_t n, sy_task_fn fn, void *arg,
                          std::uint32_t) {
      for (std::uint64_t i = 0; i < n; ++i) fn(arg, i);
    };
    out.get_setting = [](const sy_host *, const char *) -> const char * { return nullptr; };
    out.get_extension = [](const sy_host *, const char *) -> const void * { return nullptr; };
    return out;
  }();
  return h;
}

struct Backend {
  const sy_plugin *plugin = nullptr;
  sy_instance *instance = nullptr;
  const sy_device_memory *memory = nullptr;

  explicit Backend(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) stop(dlerror());
    plugin = static_cast<const sy_plugin *>(dlsym(library, SY_PLUGIN_SYMBOL));
    sy_error error{sizeof(sy_error), 0, -1, ""};
    if (plugin == nullptr || plugin->probe(&host(), &error) != SY_OK ||
        plugin->create(&host(), 0, nullptr, 0, &instance, &error) != SY_OK)
      stop(std::string(path) + ": " + error.message);
    if (plugin->get_extension != nullptr)
      memory =
          static_cast<const sy_device_memory *>(plugin->get_extension(SY_DEVICE_MEMORY_EXTENSION));
  }
  const sy_kernel *find(std::string_view op, const sy_call &call) const {
    for (std::uint32_t i = 0; i < plugin->kernel_count(instance); ++i) {
      const sy_kernel *k = plugin->kernel_at(instance, i);
      if (op == k->op && k->supports(k, instance, &call, nullptr) == SY_OK) return k;
    }
    stop(std::string("no kernel for ") + std::string(op));
  }
  void run(std::string_view op, sy_call &call) const {
    const sy_kernel *k = find(op, call);
    sy_error error{sizeof(sy_error), 0, -1, ""};
    const std::uint64_t bytes =
        k->workspace_size != nullptr ? k->workspace_size(k, instance, &call) : 0;
    std::vector<char> workspace(bytes + 64);
    call.workspace = reinterpret_cast<void *>(
        (reinterpret_cast<std::uintptr_t>(workspace.data()) + 63) & ~std::uintptr_t{63});
    call.workspace_size = bytes;
    if (k->run(k, instance, &call, &error) != SY_OK)
      stop(std::string(k->name) + ": " + error.message);
  }
  std::uint64_t kernel_ns() const {
    sy_device_totals t{};
    t.struct_size = sizeof t;
    memory->totals(instance, &t);
    return t.kernel_ns;
  }
};

struct Tensor {
  sy_tensor t{};
  std::vector<char> bytes;

  Tensor(std::vector<std::int64_t> shape, sy_dtype dtype) {
    t.rank = static_cast<std::int32_t>(shape.size());
    std::int64_t n = 1;
    for (std::size_t k = shape.size(); k-- > 0; n *= shape[k]) {
      t.shape[k] = shape[k];
      t.strides[k] = n;
    }
    t.dtype = dtype;
    t.byte_size = static_cast<std::uint64_t>(n) * dtype.bits / 8;
  }
  Tensor &on_host() {
    bytes.resize(t.byte_size);
    t.handle = bytes.data();
    return *this;
  }
  /// On the device, filled with `pattern` over and over.
  Tensor &on_device(const Backend &b, const std::vector<char> &pattern = {}) {
    t.device_kind = SY_DEVICE_CUDA;
    if (b.memory->allocate(b.instance, t.byte_size, &t.handle, nullptr) != SY_OK)
      stop("no device memory");
    for (std::uint64_t at = 0; !pattern.empty() && at < t.byte_size; at += pattern.size())
      b.memory->upload(b.instance, t.handle, at, pattern.data(),
                       std::min<std::uint64_t>(pattern.size(), t.byte_size - at), nullptr);
    return *this;
  }
  void release(const Backend &b) { b.memory->release(b.instance, t.handle); }
};

/// Normally distributed values; bf16 keeps the upper halves.
std::vector<char> normal(std::size_t n, sy_dtype dtype) {
  std::vector<char> out(n * dtype.bits / 8);
  std::uint64_t state = 12345;
  for (std::size_t i = 0; i < n; ++i) {
    float sum = -6;
    for (int k = 0; k < 12; ++k) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      sum += static_cast<float>(state >> 40) * 0x1p-24f;
    }
    const char *from = reinterpret_cast<const char *>(&sum);
    if (dtype.bits == 16)
      std::memcpy(out.data() + 2 * i, from + 2, 2);
    else
      std::memcpy(out.data() + 4 * i, from, 4);
  }
  return out;
}

sy_call call_of(std::vector<const sy_tensor *> &in, std::vector<const sy_tensor *> &out,
                const void *params, std::uint64_t size) {
  sy_call call{};
  call.struct_size = sizeof call;
  call.inputs = in.data();
  call.n_inputs = static_cast<std::uint32_t>(in.size());
  call.outputs = out.data();
  call.n_outputs = static_cast<std::uint32_t>(out.size());
  call.params = params;
  call.params_size = size;
  call.threads = 1;
  return call;
}

/// The least device time of some calls, in ms.
double best_ms(const Backend &b, const std::function<void()> &run) {
  double best = 1e30;
  for (int i = 0; i < (shrink > 1 ? 3 : 12); ++i) {
    const std::uint64_t before = b.kernel_ns();
    run();
    const double ms = static_cast<double>(b.kernel_ns() - before) * 1e-6;
    if (i >= 2) best = std::min(best, ms);
  }
  return best;
}

void row(const std::string &what, const char *unit, double got, double wanted, bool least) {
  const bool good = least ? got >= wanted : got <= wanted;
  std::printf("%-46s %10.2f %-9s wanted %s %-8.2f %s\n", what.c_str(), got, unit,
              least ? ">=" : "<=", wanted, good ? "yes" : "NO");
}

struct Format {
  sy_quant_format id;
  const char *name;
  sy_dtype codes;
  double code_bytes;  ///< a value
  std::int64_t unit, scale_unit;
  std::uint32_t group;
  bool biases;
};
constexpr Format kFormats[] = {
    {SY_QUANT_Q4_0, "q4_0", kU8, 18.0 / 32, 32, 0, 0, false},
    {SY_QUANT_Q8_0, "q8_0", kU8, 34.0 / 32, 32, 0, 0, false},
    {SY_QUANT_Q4_K, "q4_k", kU8, 144.0 / 256, 256, 0, 0, false},
    {SY_QUANT_Q6_K, "q6_k", kU8, 210.0 / 256, 256, 0, 0, false},
    {SY_QUANT_TQ2_0, "tq2_0", kU8, 66.0 / 256, 256, 0, 0, false},
    {SY_QUANT_MLX_AFFINE4, "mlx_affine4", kU32, 0.5, 64, 64, 64, true},
    {SY_QUANT_INT8, "int8", kI8, 1, 1, 0, 0, false},
};

void quantize(const Backend &cuda, const Backend &reference, double copy_gbs) {
  for (const Format &f : kFormats) {
    sy_quantize_params params{};
    params.struct_size = sizeof params;
    params.format = f.id;
    params.group_size = f.group;
    const bool one_scale = f.id == SY_QUANT_INT8;
    const auto arrays = [&](std::int64_t n) {
      const auto count =
          static_cast<std::int64_t>(static_cast<double>(n) * f.code_bytes * 8 / f.codes.bits);
      const std::int64_t scales = one_scale ? 1 : f.scale_unit > 0 ? n / f.scale_unit : 0;
      return std::vector<Tensor>{
          {{n}, kF32}, {{count}, f.codes}, {{scales}, kF32}, {{scales}, kF32}};
    };
    const auto slots = [&](std::vector<Tensor> &a) {
      const bool scales = one_scale || f.scale_unit > 0;
      return std::vector<const sy_tensor *>{&a[1].t, scales ? &a[2].t : nullptr,
                                            f.biases ? &a[3].t : nullptr};
    };
    const std::int64_t small = 256 * 33, large = 1'000'000'000 / shrink / 256 * 256;
    std::vector<Tensor> results[2] = {arrays(small), arrays(small)};
    for (int side = 0; side < 2; ++side) {
      for (Tensor &t : results[side]) t.on_host();
      results[side][0].bytes = normal(static_cast<std::size_t>(small), kF32);
      results[side][0].t.handle = results[side][0].bytes.data();
      std::vector<const sy_tensor *> in{&results[side][0].t}, out = slots(results[side]);
      sy_call call = call_of(in, out, &params, sizeof params);
      (side == 0 ? cuda : reference).run(SY_OP_QUANTIZE, call);
      std::swap(in, out);
      in.resize(3);
      sy_call back = call_of(in, out, &params, sizeof params);
      (side == 0 ? cuda : reference).run(SY_OP_DEQUANTIZE, back);
    }
    bool same = true;
    for (std::size_t i = 0; i < 4; ++i) same = same && results[0][i].bytes == results[1][i].bytes;
    failures += !same;
    std::vector<Tensor> a = arrays(large);
    const std::vector<char> pattern = normal(1 << 22, kF32);
    a[0].on_device(cuda, pattern);
    for (std::size_t i = 1; i < 4; ++i) a[i].on_device(cuda);
    std::vector<const sy_tensor *> in{&a[0].t}, out = slots(a);
    sy_call call = call_of(in, out, &params, sizeof params);
    const double n = static_cast<double>(large);
    const double bytes = n * (4 * (one_scale ? 2 : 1) + f.code_bytes +
                              (f.scale_unit > 0 ? 8.0 / static_cast<double>(f.scale_unit) : 0));
    const double to = bytes / best_ms(cuda, [&] { cuda.run(SY_OP_QUANTIZE, call); }) * 1e-6;
    std::vector<const sy_tensor *> codes = out, values{&a[0].t};
    sy_call back = call_of(codes, values, &params, sizeof params);
    const double from = (bytes - (one_scale ? 4 * n : 0)) /
                        best_ms(cuda, [&] { cuda.run(SY_OP_DEQUANTIZE, back); }) * 1e-6;
    std::printf("%-46s %s\n", (std::string(f.name) + ": bits of the reference").c_str(),
                same ? "yes" : "NO");
    row(std::string("quantize ") + f.name + ", 1e9 f32", "GB/s", to, 0.7 * copy_gbs, true);
    row(std::string("dequantize ") + f.name + ", 1e9 f32", "GB/s", from, 0.7 * copy_gbs, true);
    for (Tensor &t : a) t.release(cuda);
  }
}

struct Clusters {
  std::int64_t n, d, k;
  std::vector<Tensor> in, out;
  sy_kmeans_params params{sizeof(sy_kmeans_params), 0, 0, 0, 0, 0};

  Clusters(std::int64_t rows, std::int64_t columns, std::int64_t clusters)
      : n(rows), d(columns), k(clusters) {
    in = {{{n, d}, kF32}, {{k, d}, kF32}, {{d}, kI32}, {{n}, kI32}};
    out = {{{n}, kI32}, {{k, d}, kI64}, {{k}, kI64}, {{(n + 8191) / 8192}, kF64},
           {{1}, kI64}, {{n}, kF32}};
  }
  sy_call call(std::vector<const sy_tensor *> &i, std::vector<const sy_tensor *> &o) {
    i = {&in[0].t, &in[1].t, nullptr, &in[2].t, nullptr};
    o = {&out[0].t, &out[1].t, &out[2].t, nullptr, &out[3].t, &out[4].t, &out[5].t};
    return call_of(i, o, &params, sizeof params);
  }
};

void kmeans(const Backend &cuda, const Backend &reference, double copy_gbs) {
  std::vector<const sy_tensor *> i, o;
  std::vector<Clusters> small{{1000, 40, 70}, {1000, 40, 70}};
  for (Clusters &c : small) {
    for (Tensor &t : c.in) t.on_host();
    for (Tensor &t : c.out) t.on_host();
    c.in[0].bytes = normal(1000 * 40, kF32);
    c.in[0].t.handle = c.in[0].bytes.data();
    std::memcpy(c.in[1].t.handle, c.in[0].bytes.data(), c.in[1].t.byte_size);
    sy_call call = c.call(i, o);
    (&c == &small[0] ? cuda : reference).run(SY_OP_KMEANS_STEP, call);
  }
  bool same = true;
  for (std::size_t s = 0; s < small[0].out.size(); ++s)
    same = same && small[0].out[s].bytes == small[1].out[s].bytes;
  failures += !same;
  std::printf("%-46s %s\n", "k-means: bits of the reference", same ? "yes" : "NO");
  for (const auto &[d, k] : {std::pair{128, 1024}, {16, 64}}) {
    const std::int64_t clusters = shrink > 1 ? 20 : k;
    Clusters c(std::max(1'000'000 / shrink, clusters), d, clusters);
    const std::vector<char> x = normal(static_cast<std::size_t>(c.n * d), kF32);
    c.in[0].on_device(cuda, x);
    c.in[1].on_device(cuda, x);
    c.in[2].on_device(cuda, std::vector<char>(static_cast<std::size_t>(4 * d), 0));
    c.in[3].on_device(cuda);
    for (Tensor &t : c.out) t.on_device(cuda);
    sy_call call = c.call(i, o);
    const sy_kernel *kernel = cuda.find(SY_OP_KMEANS_STEP, call);
    if (kernel->prepare(kernel, cuda.instance, &call, 0b1101, &call.state, nullptr) != SY_OK)
      stop("no state");
    const double ms = best_ms(cuda, [&] { cuda.run(SY_OP_KMEANS_STEP, call); });
    const std::string name =
        "k-means step, 1e6 x " + std::to_string(d) + ", k " + std::to_string(k);
    if (d == 128)
      row(name, "ms", ms, 1.5, false);
    else  // rows and labels once
      row(name, "GB/s", static_cast<double>(c.n) * (4.0 * d + 8) / ms * 1e-6, 0.7 * copy_gbs, true);
    kernel->release(kernel, cuda.instance, call.state);
    for (Tensor &t : c.in) t.release(cuda);
    for (Tensor &t : c.out) t.release(cuda);
  }
}

void attention(const Backend &cuda, const Backend &reference, double copy_gbs) {
  const auto problem = [](std::int64_t b, std::int64_t hq, std::int64_t hkv, std::int64_t lq,
                          std::int64_t lkv) {
    return std::vector<Tensor>{{{b, hq, lq, 128}, kBf16},
                               {{b, hkv, lkv, 128}, kBf16},
                               {{b, hkv, lkv, 128}, kBf16},
                               {{b, hq, lq, 128}, kBf16}};
  };
  sy_attention_params params{sizeof params, SY_CAUSAL_BOTTOM_RIGHT, 0.0883883461f, 0, -1, -1, 0, 0};
  const auto run = [&](const Backend &b, std::vector<Tensor> &a) {
    std::vector<const sy_tensor *> in{&a[0].t, &a[1].t, &a[2].t}, out{&a[3].t};
    sy_call call = call_of(in, out, &params, sizeof params);
    b.run(SY_OP_ATTENTION, call);
  };
  double worst = 0;
  for (const std::int64_t queries : {100, 1}) {
    std::vector<Tensor> results[2] = {problem(1, 8, 2, queries, 700),
                                      problem(1, 8, 2, queries, 700)};
    for (int side = 0; side < 2; ++side) {
      for (Tensor &t : results[side]) {
        t.bytes = normal(t.t.byte_size / 2, kBf16);
        t.t.handle = t.bytes.data();
      }
      run(side == 0 ? cuda : reference, results[side]);
    }
    for (std::size_t e = 0; e < results[0][3].bytes.size(); e += 2) {
      float v[2] = {};
      for (int side = 0; side < 2; ++side)
        std::memcpy(reinterpret_cast<char *>(&v[side]) + 2, results[side][3].bytes.data() + e, 2);
      const double miss = std::fabs(static_cast<double>(v[0]) - static_cast<double>(v[1]));
      worst = miss <= worst ? worst : miss;  // NaN stays
    }
  }
  failures += !(worst < 0.04);
  row("attention: largest difference from f64", "", worst, 0.04, false);
  const std::vector<char> pattern = normal(1 << 22, kBf16);
  const auto measure = [&](std::int64_t b, std::int64_t lq, std::int64_t lkv) {
    std::vector<Tensor> a = problem(b, 32, 8, lq, lkv);
    for (Tensor &t : a) t.on_device(cuda, pattern);
    const double ms = best_ms(cuda, [&] { run(cuda, a); });
    for (Tensor &t : a) t.release(cuda);
    return ms;
  };
  const std::int64_t queries = std::max<std::int64_t>(4096 / shrink, 64),
                     keys = std::max<std::int64_t>(8192 / shrink, 64);
  const double prefill = measure(1, queries, queries), decode = measure(16, 1, keys);
  const auto length = static_cast<double>(queries);
  row("prefill bf16 causal 32:8, L 4096, D 128", "TFLOP/s",
      4.0 * 32 * 128 * length * (length + 1) / 2 / prefill * 1e-9, 300, true);
  row("decode bf16 32:8, 16 x 8192 keys, D 128", "GB/s",
      16.0 * 8 * static_cast<double>(keys) * 128 * 4 / decode * 1e-6, 0.8 * copy_gbs, true);
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 3)
    stop("usage: gpu_bench CUDA_PLUGIN REFERENCE_PLUGIN [COPY_GBS [GEMM_TFLOPS [SHRINK]]]");
  const Backend cuda(argv[1]), reference(argv[2]);
  if (cuda.memory == nullptr) stop("the plugin keeps no arrays on its device");
  const double copy_gbs = argc > 3 ? std::atof(argv[3]) : 0;
  if (argc > 5) shrink = std::max(1, std::atoi(argv[5]));
  if (argc > 4)
    std::printf(
        "beside a copy of %.0f GB/s (bytes read and written) and a bf16 GEMM of %s TFLOP/s\n",
        copy_gbs, argv[4]);
  quantize(cuda, reference, copy_gbs);
  kmeans(cuda, reference, copy_gbs);
  attention(cuda, reference, copy_gbs);
  std::printf("%d results were wrong\n", failures);
  return failures != 0;
}
