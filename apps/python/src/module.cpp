// SPDX-License-Identifier: Apache-2.0
// The extension switchyard._core: one thin function per call of the C++ Engine. What users see, its
// names, defaults and documentation, is the Python package around it.

#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <switchyard/attention.hpp>
#include <switchyard/batch.hpp>
#include <switchyard/engine.hpp>

#include "arrays.hpp"
#include "attention.hpp"
#include "config/options.hpp"
#include "errors.hpp"
#include "models.hpp"

namespace switchyard::python {
namespace {

using std::string;

nb::tuple run_info(const RunInfo &info) {
  return nb::make_tuple(info.backend, info.kernel, info.requested_backend, info.verified,
                        info.fallback_reason, info.time_ms, info.reused);
}

/// Runs `work` without the GIL. Errors are raised by the caller, who has it back.
template <class F>
auto unlocked(F &&work) {
  nb::gil_scoped_release release;
  return work();
}

/// Asks Python whether Ctrl-C was pressed: at most every 20 ms, because it takes the GIL.
class Interrupt {
 public:
  bool operator()() {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::milliseconds(20)) return true;
    last_ = now;
    nb::gil_scoped_acquire acquire;
    return PyErr_CheckSignals() == 0;
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

/// The arguments of Python's Engine that are not there for None.
struct Given {
  std::optional<string> policy, cache_dir;
  std::optional<bool> strict, verbose;
  std::optional<std::uint64_t> result_cache;
  std::optional<std::vector<std::pair<string, std::int64_t>>> preferences;
  /// prefer_gpu, prefer_cpp, prefer_c, and their minimum sizes.
  std::optional<std::tuple<bool, bool, bool, std::int64_t, std::int64_t, std::int64_t>> thresholds;
};

void overlay(Options &options, const Given &given) {
  if (given.thresholds) {
    BackendConfig c;
    std::tie(c.prefer_gpu, c.prefer_cpp, c.prefer_c, c.min_size_for_gpu, c.min_size_for_cpp,
             c.min_size_for_c) = *given.thresholds;
    c.apply(options);
  }
  if (given.preferences) {
    options.preferences.clear();
    for (const auto &[backend, size] : *given.preferences)
      options.preferences.push_back({backend, size});
  }
  if (given.policy) options.policy = value(parse_policy(*given.policy));
  if (given.cache_dir) options.cache_dir = *given.cache_dir;
  if (given.strict) options.strict = *given.strict;
  if (given.verbose) options.verbose = *given.verbose;
  if (given.result_cache) options.result_cache = *given.result_cache;
}

Engine make_engine(const string &preset, const string &config, int threads,
                   const std::map<string, string> &pin, const Given &given) {
  Options options;
  if (!config.empty()) {
    options.preset = preset;
    options = value(load_engine_config(config, options));
  } else if (!preset.empty()) {
    options = value(load_preset(preset));
  }
  value(apply_environment(options));
  if (threads > 0) options.threads = threads;
  for (const auto &[op, backend] : pin) options.pin[op] = backend;
  overlay(options, given);
  options.resolved = true;  // nothing is left to fold in, and these arguments come last
  return value(unlocked([&] { return Engine::create(std::move(options)); }));
}

nb::tuple quantize(Engine &engine, nb::handle x, const string &format, int group_size,
                   const string &granularity, const string &scale, const string &nonfinite,
                   const string &rounding, std::uint64_t seed, nb::handle codes, nb::handle scales,
                   nb::handle biases) {
  const Array in(x, "x", Access::read), codes_out(codes, "out", Access::write),
      scales_out(scales, "out's scales", Access::write),
      biases_out(biases, "out's biases", Access::write);
  QuantizeOptions options;
  options.format = format;
  options.group_size = group_size;
  options.granularity = granularity;
  options.scale = scale;
  options.nonfinite = nonfinite;
  options.rounding = rounding;
  options.seed = seed;
  options.codes_out = codes_out.view();
  options.scales_out = scales_out.view();
  options.biases_out = biases_out.view();
  Quantized q = value(unlocked([&] { return engine.quantize(in.view(), options); }));
  const bool blocks = q.is_blocks();
  return nb::make_tuple(codes_out.present() ? nb::borrow(codes) : to_numpy(std::move(q.codes)),
                        scales_out.present() ? nb::borrow(scales) : to_numpy(std::move(q.scales)),
                        biases_out.present() ? nb::borrow(biases) : to_numpy(std::move(q.biases)),
                        blocks, q.format, q.group_size, q.granularity, to_tuple(q.shape),
                        to_string(q.dtype), run_info(q.info));
}

/// An array of the caller as a tensor; the caller's Array keeps the memory alive.
Tensor borrowed(const Array &array) {
  return array.present() ? Tensor::adopt(array.view(), nullptr) : Tensor();
}

nb::tuple dequantize(Engine &engine, nb::handle codes, nb::handle scales, nb::handle biases,
                     const string &format, int group_size, const string &granularity,
                     const std::vector<std::int64_t> &shape, const string &dtype, nb::handle out) {
  const Array codes_in(codes, "codes", Access::read), scales_in(scales, "scales", Access::read),
      biases_in(biases, "biases", Access::read), target(out, "out", Access::write);
  Quantized q;
  q.format = format;
  q.group_size = group_size;
  q.granularity = granularity;
  q.shape = shape;
  q.dtype = value(parse_dtype(dtype));
  q.codes = borrowed(codes_in);
  q.scales = borrowed(scales_in);
  q.biases = borrowed(biases_in);
  RunInfo info;
  Tensor y = value(unlocked([&] { return engine.dequantize(q, target.view(), &info); }));
  return nb::make_tuple(target.present() ? nb::borrow(out) : to_numpy(std::move(y)),
                        run_info(info));
}

nb::tuple kmeans(Engine &engine, nb::handle x, std::int64_t k, const string &init,
                 nb::handle init_centroids, int n_init, int max_iter, double tol,
                 std::uint64_t seed, nb::handle sample_weight, bool int8, bool spherical,
                 bool closest, std::int64_t batch_size) {
  const Array in(x, "x", Access::read), start(init_centroids, "init", Access::read),
      weight(sample_weight, "sample_weight", Access::read);
  KMeansOptions options;
  options.k = k;
  options.init = init;
  options.init_centroids = start.view();
  options.n_init = n_init;
  options.max_iter = max_iter;
  options.tol = tol;
  options.seed = seed;
  options.sample_weight = weight.view();
  options.int8 = int8;
  options.spherical = spherical;
  options.closest = closest;
  options.batch_size = batch_size;
  options.progress = [interrupt = Interrupt()](double) mutable { return interrupt(); };
  auto fit = unlocked([&] { return engine.kmeans(in.view(), options); });
  if (PyErr_Occurred()) throw nb::python_error();  // KeyboardInterrupt, or a handler's own
  KMeansResult r = value(std::move(fit));
  if (r.cancelled) raise(ErrorCode::cancelled, "the fit was cancelled");
  return nb::make_tuple(to_numpy(std::move(r.labels)), to_numpy(std::move(r.centroids)), r.inertia,
                        r.n_iter, to_numpy(std::move(r.counts)), r.converged, r.empty_clusters,
                        to_numpy(std::move(r.closest_rows)), run_info(r.info));
}

nb::tuple kmeans_assign(Engine &engine, nb::handle x, nb::handle centroids) {
  const Array in(x, "x", Access::read), c(centroids, "centroids", Access::read);
  RunInfo info;
  Tensor labels = value(unlocked([&] { return engine.kmeans_assign(in.view(), c.view(), &info); }));
  return nb::make_tuple(to_numpy(std::move(labels)), run_info(info));
}

nb::tuple kmeans_transform(Engine &engine, nb::handle x, nb::handle centroids) {
  const Array in(x, "x", Access::read), c(centroids, "centroids", Access::read);
  RunInfo info;
  Tensor apart =
      value(unlocked([&] { return engine.kmeans_transform(in.view(), c.view(), &info); }));
  return nb::make_tuple(to_numpy(std::move(apart)), run_info(info));
}

KMeansOptions uses_options(const string &init, int max_iter, double tol, std::uint64_t seed) {
  KMeansOptions options;
  options.init = init;
  options.max_iter = max_iter;
  options.tol = tol;
  options.seed = seed;
  options.progress = [interrupt = Interrupt()](double) mutable { return interrupt(); };
  return options;
}

nb::tuple kmeans_product(Engine &engine, nb::handle x, std::int64_t groups, std::int64_t k,
                         const string &init, int max_iter, double tol, std::uint64_t seed) {
  const Array in(x, "x", Access::read);
  KMeansOptions options = uses_options(init, max_iter, tol, seed);
  options.k = k;
  auto made = unlocked([&] { return engine.kmeans_product(in.view(), groups, options); });
  if (PyErr_Occurred()) throw nb::python_error();
  ProductResult r = value(std::move(made));
  return nb::make_tuple(to_numpy(std::move(r.codebooks)), to_numpy(std::move(r.codes)), r.inertia,
                        run_info(r.info));
}

nb::tuple kmeans_sweep(Engine &engine, nb::handle x, const std::vector<std::int64_t> &ks,
                       const string &init, int max_iter, double tol, std::uint64_t seed,
                       std::int64_t sample) {
  const Array in(x, "x", Access::read);
  const KMeansOptions options = uses_options(init, max_iter, tol, seed);
  auto made = unlocked([&] { return engine.kmeans_sweep(in.view(), ks, options, sample); });
  if (PyErr_Occurred()) throw nb::python_error();
  const SweepResult r = value(std::move(made));
  nb::list entries;
  for (const auto &e : r.entries)
    entries.append(nb::make_tuple(e.k, e.inertia, e.silhouette, e.n_iter));
  return nb::make_tuple(entries, r.elbow_k, r.silhouette_k);
}

nb::tuple kmeans_file(Engine &engine, const string &path, std::int64_t k, const string &init,
                      nb::handle init_centroids, int max_iter, double tol, std::uint64_t seed,
                      const string &labels, std::uint64_t memory) {
  const Array start(init_centroids, "init", Access::read);
  KMeansOptions options = uses_options(init, max_iter, tol, seed);
  options.k = k;
  options.init_centroids = start.view();
  auto fit = unlocked([&] { return engine.kmeans_file(path, options, labels, memory); });
  if (PyErr_Occurred()) throw nb::python_error();
  KMeansResult r = value(std::move(fit));
  return nb::make_tuple(to_numpy(std::move(r.centroids)), r.inertia, r.n_iter,
                        to_numpy(std::move(r.counts)), r.converged, r.empty_clusters,
                        run_info(r.info));
}

double kmeans_assign_file(Engine &engine, const string &path, nb::handle centroids,
                          const string &labels, std::uint64_t memory) {
  const Array c(centroids, "centroids", Access::read);
  auto inertia = unlocked([&] {
    return engine.kmeans_assign_file(
        path, c.view(), labels, [interrupt = Interrupt()](double) mutable { return interrupt(); },
        memory);
  });
  if (PyErr_Occurred()) throw nb::python_error();
  return value(std::move(inertia));
}

nb::tuple attention(Engine &engine, nb::handle q, nb::handle k, nb::handle v, int causal,
                    std::optional<std::int64_t> window, float softcap, nb::handle mask, float scale,
                    nb::handle sinks, bool return_lse, nb::handle out, nb::handle alibi,
                    nb::handle kv_lengths, nb::handle block_table, std::int64_t keep) {
  const Array q_in(q, "q", Access::read), k_in(k, "k", Access::read), v_in(v, "v", Access::read),
      mask_in(mask, "mask", Access::read), sinks_in(sinks, "sinks", Access::read),
      target(out, "out", Access::write), alibi_in(alibi, "alibi", Access::read),
      lengths_in(kv_lengths, "kv_lengths", Access::read),
      table_in(block_table, "block_table", Access::read);
  AttentionCall options;
  options.causal = static_cast<sy_causal>(causal);
  options.window = window;
  options.softcap = softcap;
  options.mask = mask_in.view();
  options.scale = scale;
  options.sinks = sinks_in.view();
  options.return_lse = return_lse;
  options.out = target.view();
  options.alibi = alibi_in.view();
  options.kv_lengths = lengths_in.view();
  options.block_table = table_in.view();
  options.keep = keep;
  // The engine's own call knows the result cache.
  const bool more = alibi_in.present() || lengths_in.present() || table_in.present() || keep > 0;
  AttentionResult r = value(unlocked([&] {
    return more ? switchyard::attention(engine, q_in.view(), k_in.view(), v_in.view(), options)
                : engine.attention(q_in.view(), k_in.view(), v_in.view(), options);
  }));
  const string dtype = to_string(r.out.present() ? r.out.dtype() : q_in.view().dtype());
  return nb::make_tuple(target.present() ? nb::borrow(out) : to_numpy(std::move(r.out)),
                        to_numpy(std::move(r.lse)), dtype, run_info(r.info));
}

nb::dict size_summary(const SizeMetrics &m) {
  nb::dict d;
  d["timed_count"] = m.timed_count;
  d["bytes"] = m.bytes;
  d["flops"] = m.flops;
  d["avg_time_ms"] = m.mean_ms;
  d["gb_per_s"] = m.gb_per_s;
  d["gflop_per_s"] = m.gflop_per_s;
  d["threads"] = m.threads;
  d["bound"] = m.bound;
  d["level"] = m.level;
  d["memory_share"] = m.memory_share;
  d["compute_share"] = m.compute_share;
  d["text"] = m.text;
  return d;
}

nb::dict summary(const BackendMetrics &m) {
  nb::dict d;
  d["count"] = m.count;
  d["timed_count"] = m.timed_count;
  d["fallbacks"] = m.fallbacks;
  d["total_time_ms"] = m.total_ms;
  d["avg_time_ms"] = m.mean_ms;
  d["p50_ms"] = m.p50_ms;
  d["p95_ms"] = m.p95_ms;
  d["bytes"] = m.bytes;
  d["flops"] = m.flops;
  nb::list sizes;
  for (const SizeMetrics &size : m.sizes) sizes.append(size_summary(size));
  if (!m.sizes.empty()) d["sizes"] = sizes;
  return d;
}

nb::dict summaries(const std::map<string, BackendMetrics> &backends) {
  nb::dict d;
  for (const auto &[name, m] : backends) d[name.c_str()] = summary(m);
  return d;
}

nb::dict metrics(const Engine &engine) {
  const Metrics m = engine.metrics();
  nb::dict by_op, reasons, d;
  for (const auto &[op, backends] : m.by_op) by_op[op.c_str()] = summaries(backends);
  for (const auto &[reason, count] : m.fallback_reasons) reasons[reason.c_str()] = count;
  d["total_operations"] = m.total_operations;
  d["backend_summary"] = summaries(m.backends);
  d["by_op"] = by_op;
  d["fallback_reasons"] = reasons;
  d["exploration_ms"] = m.exploration_ms;
  d["dispatch_ns"] = m.dispatch_ns;
  nb::dict cache;
  cache["hits"] = m.result_cache.hits;
  cache["misses"] = m.result_cache.misses;
  cache["hit_rate"] = m.result_cache.hit_rate();
  cache["evictions"] = m.result_cache.evictions;
  cache["entries"] = m.result_cache.entries;
  cache["bytes"] = m.result_cache.bytes;
  cache["capacity"] = m.result_cache.capacity;
  d["result_cache"] = cache;
  d["limits"] = m.limits;
  return d;
}

nb::list recommend(const Engine &engine) {
  nb::list list;
  for (const Recommendation &r : engine.recommend()) {
    nb::dict d;
    d["what"] = r.what;
    d["evidence"] = r.evidence;
    if (r.expected_gain > 0)
      d["expected_gain"] = r.expected_gain;
    else
      d["expected_gain"] = nb::none();
    list.append(d);
  }
  return list;
}

nb::list plugins(const Engine &engine) {
  nb::list list;
  for (const PluginInfo &p : engine.plugins()) {
    nb::dict d;
    d["id"] = p.id;
    d["version"] = p.version;
    d["path"] = p.path;
    d["status"] = p.status;
    d["reason"] = p.reason;
    d["instances"] = p.instances;
    d["devices"] = p.devices;
    d["kernels"] = p.kernels;
    list.append(d);
  }
  return list;
}

Engine &pinned(Engine &engine, const string &backend) {
  return *value(unlocked([&] { return engine.pinned(backend); }));
}

string explain(Engine &engine, const string &op, const string &shape) {
  return value(unlocked([&] { return engine.explain(op, shape); })).json();
}

std::vector<string> decisions(const Engine &engine) {
  std::vector<string> out;
  for (const Explanation &e : engine.decisions()) out.push_back(e.json());
  return out;
}

/// How the core sees an array: (address of the first element, shape, strides, dtype). For tests.
nb::tuple view_of(nb::handle x) {
  const Array array(x, "x", Access::read);
  const TensorView &view = array.view();
  return nb::make_tuple(reinterpret_cast<std::uintptr_t>(view.data()), to_tuple(view.shape()),
                        to_tuple(view.strides()), to_string(view.dtype()));
}

}  // namespace

NB_MODULE(_core, m) {
  const std::string_view text = version();
  m.attr("version") = nb::str(text.data(), text.size());
  using namespace nb::literals;
  const auto a = nb::arg().none();  // an array or None
  m.def("view_of", &view_of, a);
  m.def("available_memory", &available_memory);
  nb::class_<Engine> engine(m, "Engine");
  engine
      .def(
          "__init__",
          [](Engine *self, const string &preset, const string &config, int threads,
             const std::map<string, string> &pin, decltype(Given::policy) policy,
             decltype(Given::cache_dir) cache_dir, decltype(Given::strict) strict,
             decltype(Given::verbose) verbose, decltype(Given::result_cache) result_cache,
             decltype(Given::preferences) preferences, decltype(Given::thresholds) thresholds) {
            new (self) Engine(make_engine(preset, config, threads, pin,
                                          {std::move(policy), std::move(cache_dir), strict, verbose,
                                           result_cache, std::move(preferences), thresholds}));
          },
          "preset"_a, "config"_a, "threads"_a, "pin"_a, "policy"_a.none(), "cache_dir"_a.none(),
          "strict"_a.none(), "verbose"_a.none(), "result_cache"_a.none(), "preferences"_a.none(),
          "thresholds"_a.none())
      .def("quantize", &quantize, a, "format"_a, "group_size"_a, "granularity"_a, "scale"_a,
           "nonfinite"_a, "rounding"_a, "seed"_a, a, a, a)
      .def("dequantize", &dequantize, a, a, a, "format"_a, "group_size"_a, "granularity"_a,
           "shape"_a, "dtype"_a, a)
      .def("kmeans", &kmeans, a, "k"_a, "init"_a, a, "n_init"_a, "max_iter"_a, "tol"_a, "seed"_a, a,
           "int8"_a, "spherical"_a, "closest"_a, "batch_size"_a)
      .def("kmeans_assign", &kmeans_assign, a, a)
      .def("kmeans_transform", &kmeans_transform, a, a)
      .def("kmeans_product", &kmeans_product, a, "groups"_a, "k"_a, "init"_a, "max_iter"_a, "tol"_a,
           "seed"_a)
      .def("kmeans_sweep", &kmeans_sweep, a, "ks"_a, "init"_a, "max_iter"_a, "tol"_a, "seed"_a,
           "sample"_a)
      .def("kmeans_file", &kmeans_file, "path"_a, "k"_a, "init"_a, a, "max_iter"_a, "tol"_a,
           "seed"_a, "labels"_a, "memory"_a)
      .def("kmeans_assign_file", &kmeans_assign_file, "path"_a, a, "labels"_a, "memory"_a)
      .def("attention", &attention, a, a, a, "causal"_a, "window"_a.none(), "softcap"_a, a,
           "scale"_a, a, "return_lse"_a, a, a, a, a, "keep"_a)
      .def("explain", &explain)
      .def("decisions", &decisions)
      .def("metrics", &metrics)
      .def("recommend", &recommend)
      .def("plugins", &plugins)
      .def("backends", &Engine::backends)
      .def("pinned", &pinned, nb::rv_policy::reference_internal)
      .def("search_log", &Engine::search_log)
      .def("threads", &Engine::threads);
  bind_models(m);
  bind_advice(m);
  bind_kv_cache(m, engine);
}

}  // namespace switchyard::python
