// SPDX-License-Identifier: Apache-2.0
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "calls.hpp"

namespace switchyard::python {
namespace {

using std::string;

KMeansOptions common_options(const string &init, int max_iter, double tol, std::uint64_t seed,
                             const Watch &watch) {
  KMeansOptions options;
  options.init = init;
  options.max_iter = max_iter;
  options.tol = tol;
  options.seed = seed;
  options.progress = watch.progress();
  return options;
}

nb::tuple kmeans(Engine &engine, nb::handle x, std::int64_t k, const string &init,
                 nb::handle init_centroids, int n_init, int max_iter, double tol,
                 std::uint64_t seed, nb::handle sample_weight, bool int8, bool spherical,
                 bool closest, std::int64_t batch_size, nb::handle progress) {
  const bool torch_out = is_torch(x, "x");
  const Array in(x, "x", Access::read), start(init_centroids, "init", Access::read),
      weight(sample_weight, "sample_weight", Access::read);
  const Watch watch(progress);
  KMeansOptions options = common_options(init, max_iter, tol, seed, watch);
  options.k = k;
  options.init_centroids = start.view();
  options.n_init = n_init;
  options.sample_weight = weight.view();
  options.int8 = int8;
  options.spherical = spherical;
  options.closest = closest;
  options.batch_size = batch_size;
  KMeansResult r = watch.value(unlocked([&] { return engine.kmeans(in.view(), options); }));
  return nb::make_tuple(
      wrapped(std::move(r.labels), torch_out), wrapped(std::move(r.centroids), torch_out),
      r.inertia, r.n_iter, wrapped(std::move(r.counts), torch_out), r.converged, r.empty_clusters,
      run_info(remember(std::move(r.info))), wrapped(std::move(r.closest_rows), torch_out));
}

nb::object kmeans_assign(Engine &engine, nb::handle x, nb::handle centroids) {
  const bool torch_out = is_torch(x, "x");
  const Array in(x, "x", Access::read), c(centroids, "centroids", Access::read);
  RunInfo info;
  Tensor labels =
      value(run_call(in.view(), [&] { return engine.kmeans_assign(in.view(), c.view(), &info); }));
  remember(std::move(info));
  return wrapped(std::move(labels), torch_out);
}

nb::object kmeans_transform(Engine &engine, nb::handle x, nb::handle centroids) {
  const bool torch_out = is_torch(x, "x");
  const Array in(x, "x", Access::read), c(centroids, "centroids", Access::read);
  RunInfo info;
  Tensor apart = value(
      run_call(in.view(), [&] { return engine.kmeans_transform(in.view(), c.view(), &info); }));
  remember(std::move(info));
  return wrapped(std::move(apart), torch_out);
}

nb::tuple kmeans_product(Engine &engine, nb::handle x, std::int64_t groups, std::int64_t k,
                         const string &init, int max_iter, double tol, std::uint64_t seed,
                         nb::handle progress) {
  const bool torch_out = is_torch(x, "x");
  const Array in(x, "x", Access::read);
  const Watch watch(progress);
  KMeansOptions options = common_options(init, max_iter, tol, seed, watch);
  options.k = k;
  ProductResult r =
      watch.value(unlocked([&] { return engine.kmeans_product(in.view(), groups, options); }));
  return nb::make_tuple(wrapped(std::move(r.codebooks), torch_out),
                        wrapped(std::move(r.codes), torch_out), r.inertia,
                        run_info(remember(std::move(r.info))));
}

nb::tuple kmeans_sweep(Engine &engine, nb::handle x, const std::vector<std::int64_t> &ks,
                       const string &init, int max_iter, double tol, std::uint64_t seed,
                       std::int64_t sample, nb::handle progress) {
  const Array in(x, "x", Access::read);
  const Watch watch(progress);
  const KMeansOptions options = common_options(init, max_iter, tol, seed, watch);
  const SweepResult r =
      watch.value(unlocked([&] { return engine.kmeans_sweep(in.view(), ks, options, sample); }));
  nb::list entries;
  for (const auto &e : r.entries)
    entries.append(nb::make_tuple(e.k, e.inertia, e.silhouette, e.n_iter));
  return nb::make_tuple(entries, r.elbow_k, r.silhouette_k);
}

nb::tuple kmeans_file(Engine &engine, const string &path, std::int64_t k, const string &init,
                      nb::handle init_centroids, int max_iter, double tol, std::uint64_t seed,
                      const string &labels, std::uint64_t memory, nb::handle progress) {
  const Array start(init_centroids, "init", Access::read);
  const Watch watch(progress);
  KMeansOptions options = common_options(init, max_iter, tol, seed, watch);
  options.k = k;
  options.init_centroids = start.view();
  KMeansResult r =
      watch.value(unlocked([&] { return engine.kmeans_file(path, options, labels, memory); }));
  return nb::make_tuple(to_numpy(std::move(r.centroids)), r.inertia, r.n_iter,
                        to_numpy(std::move(r.counts)), r.converged, r.empty_clusters,
                        run_info(remember(std::move(r.info))));
}

double kmeans_assign_file(Engine &engine, const string &path, nb::handle centroids,
                          const string &labels, std::uint64_t memory, nb::handle progress) {
  const Array c(centroids, "centroids", Access::read);
  const Watch watch(progress);
  return watch.value(unlocked(
      [&] { return engine.kmeans_assign_file(path, c.view(), labels, watch.progress(), memory); }));
}

}  // namespace

void bind_kmeans(EngineClass &engine) {
  const auto a = nb::arg().none();  // an array, a function, or None
  const auto v = nb::arg();
  engine.def("kmeans", &kmeans, a, v, v, a, v, v, v, v, a, v, v, v, v, a)
      .def("kmeans_assign", &kmeans_assign, a, a)
      .def("kmeans_transform", &kmeans_transform, a, a)
      .def("kmeans_product", &kmeans_product, a, v, v, v, v, v, v, a)
      .def("kmeans_sweep", &kmeans_sweep, a, v, v, v, v, v, v, a)
      .def("kmeans_file", &kmeans_file, v, v, v, a, v, v, v, v, v, a)
      .def("kmeans_assign_file", &kmeans_assign_file, v, a, v, v, a);
}

}  // namespace switchyard::python
