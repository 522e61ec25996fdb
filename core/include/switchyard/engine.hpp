// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The C++ interface: an Engine routes calls to verified, measured backends.
///
///     switchyard::Engine engine(switchyard::Options{.preset = "production-cpu"});
///     auto fit = engine.kmeans({points, {100000, 16}}, {.k = 64});
///     if (!fit) std::puts(fit.error().text().c_str());
///
/// Engines are thread-safe; results own their memory; views are never kept after a call returns.

#include <switchyard/ops/attention.h>
#include <switchyard/ops/kmeans.h>
#include <switchyard/ops/quantize.h>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <switchyard/tensor.hpp>
#include <vector>

namespace switchyard {

enum class Policy { adaptive, benchmark, thresholds, fixed, frozen };
enum class Numerics { reproducible, tolerant };
enum class Isolation { off, first_use, always };

/// One rule of the thresholds policy: backends matching `backend` (an instance or plugin name)
/// are taken, in order of the list, for calls of at least `min_size` elements.
struct Preference {
  std::string backend;
  std::int64_t min_size = 0;
};

/// Names that stand for groups of backends in a Preference: those whose memory is not the host's,
/// the others but for the reference, and the reference.
inline constexpr const char *kDeviceGroup = "@device", *kNativeGroup = "@native",
                            *kReferenceGroup = "@reference";

/// How an engine behaves. Everything has a default; YAML files and presets fill in the same struct.
struct Options {
  std::string preset;  ///< "", or a file name in config/presets without .yaml
  Policy policy = Policy::adaptive;
  Numerics numerics = Numerics::reproducible;
  Isolation isolation = Isolation::first_use;
  int threads = 0;                         ///< 0 = what cgroup, affinity and hwloc allow
  std::map<std::string, std::string> pin;  ///< op, or "kmeans", or "*" -> backend; never falls back
  bool strict = false;                     ///< forbid run-time fallback to another backend
  std::vector<Preference> preferences;     ///< for Policy::thresholds
  std::vector<std::string> plugin_paths;   ///< absolute directories, searched first
  std::optional<std::string> cache_dir;    ///< nullopt = XDG cache; "" = keep nothing on disk
  std::string isa;                         ///< cap: avx2 | avx512 | avx512_bf16 | amx; "" = none
  double exploration_share = 0.02;         ///< of run time that trying other candidates may cost
  double exploration_ms = 200;             ///< the same at the start, before the share allows it
  double margin = 0.05;                    ///< a challenger must be faster by this share
  std::string lock_file;                   ///< decisions that Policy::frozen follows
  double shadow_share = 0.005;             ///< of run time spent on checking kernels at work
  std::uint32_t gate_timeout_ms = 200;     ///< how long a first call waits for verification
  std::string log_level = "warning";       ///< debug | info | warning | error | off
  bool verbose = false;            ///< log who answered each call of the typed functions, as info
  std::uint64_t result_cache = 0;  ///< bytes of results kept by content of their inputs; 0 = none
  /// Preset and environment are in already (set by the configuration loaders); otherwise the engine
  /// applies them: preset < fields that differ from their defaults < SWITCHYARD_* variables.
  bool resolved = false;
};

/// Thresholds as hosts know them from other dispatchers: the first group that is preferred and
/// whose minimum size (elements of the largest input) the call reaches answers.
struct BackendConfig {
  bool prefer_gpu = true;  ///< backends with a device of their own
  bool prefer_cpp = true;  ///< vectorised and threaded code on the processor
  bool prefer_c = true;    ///< plain loops: the reference
  std::int64_t min_size_for_gpu = 1'000'000, min_size_for_cpp = 0, min_size_for_c = 0;
  /// Sets `preferences` and the policy `thresholds`.
  SY_API void apply(Options &options) const;
};

/// Who answered a call.
struct RunInfo {
  std::string backend;            ///< instance: "avx512", "opencl:0"
  std::string kernel;             ///< "attention.f32_f32.prefill@avx512"
  std::string requested_backend;  ///< the pin, or ""
  std::string verified;           ///< "gate" | "cached" | "no"
  std::string fallback_reason;    ///< "" when the chosen kernel answered
  double time_ms = 0;             ///< wall time of the whole operation
  bool reused = false;            ///< a copy of an earlier result (Options::result_cache)
};

struct QuantizeOptions {
  std::string format;                  ///< "mlx_affine4", "q4_0", "ternary", ... (any case)
  int group_size = 0;                  ///< 0 = the format's default
  std::string granularity = "tensor";  ///< tensor | row | group | channel
  std::string scale = "default";       ///< default | absmax | absmean | floor | rceil
  std::string nonfinite = "error";     ///< error | saturate
  std::string rounding = "nearest";    ///< nearest | stochastic (int8)
  std::uint64_t seed = 0;              ///< of stochastic rounding
  /// Caller-owned output arrays; absent ones are allocated.
  TensorView codes_out{}, scales_out{}, biases_out{};
};

struct Quantized {
  std::string format;
  int group_size = 0;
  std::string granularity = "tensor";
  std::vector<std::int64_t> shape;  ///< of the original
  DType dtype = dtypes::f32;        ///< of the original
  Tensor codes;                     ///< blocks or codes, as ops/quantize.h says
  Tensor scales, biases;            ///< absent where the format has none
  RunInfo info;

  /// True for formats whose one array is called `blocks`.
  SY_API bool is_blocks() const noexcept;
  SY_API std::uint64_t bytes() const noexcept;  ///< of all arrays
};

/// done in 0..1; return false to cancel.
using Progress = std::function<bool(double done)>;

struct KMeansOptions {
  std::int64_t k = 8;
  std::string init = "k-means++";  ///< k-means++ | k-means|| | random | given (init_centroids)
  TensorView init_centroids{};     ///< f32 [k, d]
  int n_init = 1;
  int max_iter = 300;
  double tol = 1e-4;
  std::uint64_t seed = 0;
  TensorView sample_weight{};  ///< f32 [n], >= 0, not all zero
  bool int8 = false;  ///< iterate with labels from 8-bit codes (docs/kmeans.md); the last are exact
  /// Clusters directions: rows and centroids are scaled to length 1. A row of zeros is an error.
  bool spherical = false;
  /// Also find, for each centroid, the row of x that is closest to it.
  bool closest = false;
  /// > 0: mini-batch k-means. Each of max_iter steps draws so many rows and moves the centroids to
  /// the means of all rows drawn for them so far; n_init starts are not offered.
  std::int64_t batch_size = 0;
  Progress progress{};
};

struct KMeansResult {
  Tensor labels;     ///< i32 [n]
  Tensor centroids;  ///< f32 [k, d]
  Tensor counts;     ///< i64 [k], rows per cluster
  double inertia = 0;
  int n_iter = 0;  ///< centroid updates of the best run
  bool converged = false;
  bool cancelled = false;           ///< the result of the last completed iteration
  std::int64_t empty_clusters = 0;  ///< clusters that kept their old centre
  Tensor closest_rows;              ///< i64 [k] on request: lowest D*, then lowest row; -1 if empty
  RunInfo info;
};

/// One codebook for each of m groups of adjacent columns.
struct ProductResult {
  Tensor codebooks;    ///< f32 [m, k, d / m]
  Tensor codes;        ///< [n, m]: u8 where k <= 256, else i32
  double inertia = 0;  ///< summed over the groups: the squared error of decoding
  RunInfo info;        ///< of the first group
};

/// Fits for several k.
struct SweepResult {
  struct Entry {
    std::int64_t k = 0;
    double inertia = 0;
    double silhouette = 0;  ///< mean over the sample, -1..1; 0 where k is 1
    int n_iter = 0;
  };
  std::vector<Entry> entries;     ///< as asked for, ascending in k
  std::int64_t elbow_k = 0;       ///< farthest below the line from first to last inertia
  std::int64_t silhouette_k = 0;  ///< of the largest silhouette, the lowest k among equals
};

struct AttentionOptions {
  sy_causal causal = SY_CAUSAL_NONE;
  std::optional<std::int64_t> window{};  ///< W keys including itself: left = W - 1, right unlimited
  std::int64_t window_left = -1, window_right = -1;       ///< -1 = unlimited
  float softcap = 0;                                      ///< 0 = none
  float scale = std::numeric_limits<float>::quiet_NaN();  ///< NaN = 1/sqrt(Dk)
  TensorView mask{};   ///< bool or additive; broadcast to [B, Hq, Lq, Lkv] from the right
  TensorView sinks{};  ///< f32 [Hq]
  bool return_lse = false;
  TensorView out{};  ///< caller-owned output; absent = allocated
};

struct AttentionResult {
  Tensor out;  ///< [B, Hq, Lq, Dv]; absent when the caller gave `out`
  Tensor lse;  ///< f32 [B, Hq, Lq] on request
  RunInfo info;
};

/// Every candidate for a call, and why one was chosen.
struct Explanation {
  struct Candidate {
    std::string kernel, backend;
    bool supported = false;
    std::string reason;              ///< why refused, or why not chosen
    std::string verified;            ///< "gate" | "cached" | "no" | "failed: ..."
    double estimate_ns = 0;          ///< the author's prior; 0 = none
    double median_ns = 0;            ///< measured; 0 = not yet
    double predicted_ns = 0;         ///< stored for this shape, or from others; 0 = nothing known
    double low_ns = 0, high_ns = 0;  ///< 95 % interval of the median
    int samples = 0;
  };
  std::string op, shape, policy;
  std::uint64_t calls = 0;  ///< of this class of calls so far
  std::string chosen;       ///< kernel, "" if none supports the call
  std::string rule;         ///< the rule that decided, in words
  std::string store;        ///< "hit", or "miss: ..."
  std::string reproducer;   ///< a one-line command
  std::vector<Candidate> candidates;

  SY_API std::string text() const;
  SY_API std::string json() const;
};

/// Calls of like size (within a factor of four), held against what the machine can do at best
/// there.
struct SizeMetrics {
  std::uint64_t timed_count = 0;
  double bytes = 0, flops = 0, mean_ms = 0;  ///< of a call: least traffic, arithmetic, time
  double gb_per_s = 0, gflop_per_s = 0;      ///< achieved
  int threads = 1;                           ///< that the calls might use
  /// "memory", "compute", or "overhead" where neither limit explains a quarter of the time; ""
  /// while the limits are unknown (`switchyard info --limits` measures and keeps them).
  std::string bound;
  std::string level;  ///< of memory that holds the call's bytes: "L2", "memory"
  double memory_share = 0, compute_share = 0;  ///< of that level's bandwidth, of the peak
  std::string text;                            ///< the same in words
};

struct BackendMetrics {
  std::uint64_t count = 0, timed_count = 0, fallbacks = 0;
  double total_ms = 0, mean_ms = 0, p50_ms = 0, p95_ms = 0;
  double bytes = 0, flops = 0;
  std::vector<SizeMetrics> sizes;  ///< smallest first; only in Metrics::by_op
};

/// What Options::result_cache did.
struct ResultCacheMetrics {
  std::uint64_t hits = 0, misses = 0, evictions = 0, entries = 0;
  std::uint64_t bytes = 0, capacity = 0;
  double hit_rate() const noexcept {
    return hits + misses == 0 ? 0 : static_cast<double>(hits) / static_cast<double>(hits + misses);
  }
};

/// An instance's own account of its device (`switchyard/device_memory.h`): kernels and transfers
/// apart, by the device's clock. Checks before a kernel's first use count too.
struct DeviceMetrics {
  std::uint64_t kernels = 0;              ///< launched
  double kernel_ms = 0, transfer_ms = 0;  ///< transfers: 0 where host memory is device memory
  std::uint64_t bytes_to_device = 0, bytes_from_device = 0;
  std::uint64_t programs_built = 0, programs_cached = 0;  ///< compiled; taken from files
  double build_ms = 0;                                    ///< of both
};

struct Metrics {
  std::uint64_t total_operations = 0;
  std::map<std::string, BackendMetrics> backends;                      ///< by instance
  std::map<std::string, std::map<std::string, BackendMetrics>> by_op;  ///< op -> instance
  std::vector<std::pair<std::string, std::uint64_t>> fallback_reasons;
  double exploration_ms = 0;        ///< what trying other candidates cost beyond the best known
  double exploration_share = 0;     ///< the same as a share of the time in kernels
  std::uint64_t shadow_checks = 0;  ///< parts of calls recomputed by the reference
  double shadow_ms = 0;             ///< what that took
  std::uint64_t quarantined = 0;    ///< kernels found wrong that way
  double dispatch_ns = 0;           ///< mean cost of a decided call, 0 if never sampled
  ResultCacheMetrics result_cache;
  std::map<std::string, DeviceMetrics> devices;  ///< by instance; those that ran a kernel
  std::string limits;  ///< where the machine's limits come from, or why there are none

  SY_API std::string json() const;
};

struct Recommendation {
  std::string what;          ///< what to enable, build, install or change
  std::string evidence;      ///< the measurement behind it
  double expected_gain = 0;  ///< times faster; 0 = no figure
  std::string command{};     ///< what to type to follow it; "" where no single line would do
};

/// How long `Engine::measure` times.
struct MeasureOptions {
  double seconds = 0.3;    ///< for all candidates of the shape together
  int rounds = 7;          ///< turns each takes at least
  int most_rounds = 1000;  ///< and at most, however quick they are
  double hopeless = 8;     ///< so many times slower than the fastest is timed once, then left out
  bool estimated = true;   ///< time also what is that by its author's estimate and takes long
  bool late = true;        ///< and what is compiled at its first use, for the same cores
  bool remember = false;   ///< keep the timings: in this engine's decisions and in the timing store
  std::uint64_t seed = 0;
  std::function<bool()> go_on{};  ///< asked between turns; false ends with `cancelled`
};

/// Every verified candidate of a shape, timed in turns on one generated problem.
struct Measurement {
  struct Candidate {
    std::string kernel, backend;
    std::vector<double> ns;  ///< per call, one a turn; turn i of all candidates is of one moment
    bool hopeless = false;   ///< far slower: timed once, then left out
    double median_ns = 0;
  };
  std::string op, shape;
  std::string expected;  ///< kernel that the engine would have run before this measurement
  double bytes = 0, flops = 0;
  int put_off = 0;  ///< candidates that were left out for want of MeasureOptions::late
  std::vector<Candidate> candidates;
};

/// A timing kept from this or an earlier process.
struct StoredTiming {
  std::string kernel, runtime, shape;
  int threads = 0, samples = 0;
  double ns = 0, low = 0, high = 0;  ///< median and its 95 % interval
};

/// One backend's times for a call of the caller's.
struct CallTiming {
  std::string backend, kernel;
  std::string verified;  ///< "gate" | "cached" | "no"
  std::string refused;   ///< why it was not timed
  int samples = 0;
  double min_ms = 0, median_ms = 0, p95_ms = 0;
};

/// A plugin file or instance as the loader saw it.
struct PluginInfo {
  std::string id, version, build_id, path, content_hash;
  std::string status;  ///< "loaded" | "refused" | "unavailable"
  std::string reason;  ///< why not loaded
  std::vector<std::string> instances;
  std::vector<std::string> devices;
  std::vector<std::string> kernels;
  std::map<std::string, std::string> quarantined;  ///< kernels found wrong at work, and why
};

class Engine;

/// A decided call for hot loops: all but data pointers and growing lengths is fixed; the tensors'
/// descriptions and the parameters are copied, the data is the caller's. Nothing is validated and
/// no clock is kept. One thread at a time; keep the engine alive.
class SY_API Bound {
 public:
  Bound(Bound &&) noexcept;
  Bound &operator=(Bound &&) noexcept;
  ~Bound();
  /// The tensor of a slot, to be pointed elsewhere or grown between runs; null if absent.
  sy_tensor *input(std::size_t slot) noexcept;
  sy_tensor *output(std::size_t slot) noexcept;
  /// Runs the kernel; SY_OK or its status.
  std::int32_t run(sy_error *error = nullptr) noexcept { return (*invoke_)(impl_.get(), error); }
  const std::string &kernel() const noexcept;

 private:
  friend class Engine;
  Bound();
  struct Impl;
  static std::int32_t undecided_run(Impl *, sy_error *) noexcept;
  static std::int32_t decided_run(Impl *, sy_error *) noexcept;
  static std::int32_t sampled_run(Impl *, sy_error *) noexcept;
  std::int32_t (*invoke_)(Impl *, sy_error *) = nullptr;
  std::unique_ptr<Impl> impl_;
};

class SY_API Engine {
 public:
  /// Loads plugins; never throws for a bad plugin. Throws std::runtime_error only when the options
  /// are wrong (unknown preset) or no backend at all can be had; `create` returns that as an Error.
  explicit Engine(Options options = {});
  static Result<Engine> create(Options options = {});
  /// Everything by default and from the environment: measured choices among all that loads.
  static Result<Engine> create_auto();
  Engine(Engine &&) noexcept;
  Engine &operator=(Engine &&) noexcept;
  ~Engine();

  Result<Quantized> quantize(TensorView x, const QuantizeOptions &options);
  /// `out` present: written there (its dtype decides); else a new array of the original dtype.
  Result<Tensor> dequantize(const Quantized &q, TensorView out = {}, RunInfo *info = nullptr);
  Result<KMeansResult> kmeans(TensorView x, const KMeansOptions &options);
  /// Labels (i32 [n]) of rows for given centroids.
  Result<Tensor> kmeans_assign(TensorView x, TensorView centroids, RunInfo *info = nullptr);
  /// Clusters the rows of a .npy file (f32 or f16, C order) that need not fit in memory: about
  /// `memory` bytes are used. The result is that of `kmeans` on the whole array, bit for bit, from
  /// the same first centroids; k-means++ and k-means|| choose them among as many rows, drawn at
  /// random, as fit. Labels go to the .npy file `labels`, if one is named, not into the result.
  /// Not offered: weights, n_init, batches, spherical, closest.
  Result<KMeansResult> kmeans_file(const std::string &path, const KMeansOptions &options,
                                   const std::string &labels = {},
                                   std::uint64_t memory = std::uint64_t{256} << 20);
  /// Labels of a .npy file's rows, written to another; likewise in pieces. Returns the inertia.
  Result<double> kmeans_assign_file(const std::string &path, TensorView centroids,
                                    const std::string &labels, const Progress &progress = {},
                                    std::uint64_t memory = std::uint64_t{256} << 20);
  /// Distances (Euclidean, RN(sqrt(D*))) of rows to centroids, f32 [n, k].
  Result<Tensor> kmeans_transform(TensorView x, TensorView centroids, RunInfo *info = nullptr);
  /// Product quantisation: k-means in each of `groups` groups of d / groups adjacent columns. Group
  /// g uses seed + g. Init must not be "given".
  Result<ProductResult> kmeans_product(TensorView x, std::int64_t groups,
                                       const KMeansOptions &options);
  /// Fits every k of `ks` (ascending), and scores each on `sample` rows drawn once.
  Result<SweepResult> kmeans_sweep(TensorView x, const std::vector<std::int64_t> &ks,
                                   const KMeansOptions &options, std::int64_t sample = 1000);
  Result<AttentionResult> attention(TensorView q, TensorView k, TensorView v,
                                    const AttentionOptions &options = {});

  /// Any operation with caller-owned outputs. On a decided key: no lock, no allocation, but for
  /// the few calls that Options::shadow_share samples for a check.
  /// `info` is filled (and allocates) only when given.
  std::int32_t run(std::string_view op, sy_call &call, sy_error *error = nullptr,
                   RunInfo *info = nullptr) noexcept;
  Result<Bound> bind(std::string_view op, const sy_call &call);

  /// Explains what would be chosen for a described problem ("n=1000,d=16,k=8"), measuring nothing
  /// unless `measure`.
  Result<Explanation> explain(std::string_view op, std::string_view shape, bool measure = false);
  /// The decision records of all classes of calls met so far, most called first; of the candidates
  /// those that support the call.
  std::vector<Explanation> decisions() const;
  /// Times all verified candidates on a generated problem ("n=1000,d=16,k=8").
  Result<Measurement> measure(std::string_view op, std::string_view shape,
                              const MeasureOptions &options = {});
  /// Writes what is decided by now as a lock file for Policy::frozen; other entries of an existing
  /// file stay.
  Status freeze(const std::string &path) const;
  /// Writes timings that are not on disk yet; also done from time to time and at the end.
  void save() const;
  /// All timings kept for the loaded candidates, and where; "" = nowhere.
  std::vector<StoredTiming> stored_timings() const;
  const std::string &timing_directory() const noexcept;
  /// Times `work` on every backend in turns: it is given an engine like this one that is pinned to
  /// one of them, runs the call and returns the result's `info`. Fastest first, the refused last.
  /// Errors that are the call's own end it.
  Result<std::vector<CallTiming>> benchmark(const std::function<Result<RunInfo>(Engine &)> &work,
                                            int rounds = 5);
  /// An engine like this one, pinned to one backend; made on first use, lives as long as this one.
  Result<Engine *> pinned(const std::string &backend);
  /// Names of the instances, in the order of loading.
  std::vector<std::string> backends() const;
  Metrics metrics() const;
  std::vector<Recommendation> recommend() const;
  std::vector<PluginInfo> plugins() const;
  /// Every path the loader looked at, with what it found.
  std::vector<std::string> search_log() const;
  const Options &options() const noexcept;
  int threads() const noexcept;

  struct Impl;
  Impl &impl() noexcept { return *impl_; }

 private:
  explicit Engine(std::unique_ptr<Impl> impl) noexcept;
  static Result<Engine> assemble(Options options);
  std::unique_ptr<Impl> impl_;
};

SY_API std::string_view version() noexcept;

}  // namespace switchyard
