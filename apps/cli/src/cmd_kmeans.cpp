// SPDX-License-Identifier: Apache-2.0
// switchyard kmeans IN -k K: clusters the rows of an array.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "arrays.hpp"
#include "base/suggest.hpp"
#include "cancel.hpp"
#include "compare.hpp"
#include "io/file.hpp"
#include "picture.hpp"
#include "session.hpp"
#include "text.hpp"

namespace switchyard::cli {
namespace {

// The reference needs about 60 ms for as many multiply-adds.
constexpr std::int64_t kCompareWork = std::int64_t{1} << 25;
constexpr int kCompareIterations = 5;

struct Arguments {
  std::string input, init = "k-means++", labels, centroids, closest, distances, picture;
  std::int64_t k = 0, batch_size = 0, memory = 256;
  int n_init = 1, max_iter = 300;
  double tol = 1e-4;
  bool int8 = false, spherical = false, stream = false;
};

bool init_is_file(const std::string &init) {
  const std::string ext = extension_of(init);
  return ext == ".npy" || ext == ".npz" || ext == ".safetensors";
}

Status check(const Arguments &a, const Common &common) {
  if (auto ok = check_common(common); !ok) return ok;
  const auto bad = [](std::string message) { return fail(ErrorCode::usage, std::move(message)); };
  if (a.k < 1) return bad(fmt::format("-k {}: at least one cluster is needed", a.k));
  if (a.n_init < 1) return bad(fmt::format("--n-init {}: at least 1", a.n_init));
  if (a.max_iter < 1) return bad(fmt::format("--max-iter {}: at least 1", a.max_iter));
  if (!(a.tol >= 0)) return bad(fmt::format("--tol {}: it must not be negative", a.tol));
  constexpr std::array<std::string_view, 3> methods{"k-means++", "k-means||", "random"};
  if (!init_is_file(a.init) && std::ranges::find(methods, a.init) == methods.end())
    return bad(
        fmt::format("unknown --init '{}'{}; known: k-means++, k-means||, random, or a FILE.npy of "
                    "centroids",
                    a.init, did_you_mean(a.init, methods)));
  if (init_is_file(a.init) && a.n_init > 1)
    return bad("--n-init above 1 makes no sense with given centroids");
  if (a.batch_size < 0) return bad(fmt::format("--batch-size {}: at least 1", a.batch_size));
  if (a.memory < 1) return bad(fmt::format("--memory {}: at least 1 MiB", a.memory));
  if (a.stream && (a.n_init > 1 || a.batch_size > 0 || a.spherical || !a.closest.empty() ||
                   !a.distances.empty() || !a.picture.empty()))
    return bad(
        "--stream goes with -k, --init, --max-iter, --tol, --int8, --labels and --centroids only");
  if (a.stream && !a.labels.empty() && extension_of(a.labels) != ".npy")
    return bad("--stream writes labels as .npy only");
  for (const std::string *path : {&a.labels, &a.centroids, &a.closest, &a.distances})
    if (auto ok = check_output(*path, {".npy", ".npz", ".safetensors"}); !ok) return ok;
  return check_picture(a.picture, a.input);
}

/// A file larger than memory, in pieces.
Outcome run_stream(const Arguments &a, const Common &common, KMeansOptions options) {
  auto engine = make_engine(common);
  if (!engine) return tl::unexpected(engine.error());
  options.progress = progress_bar("k-means");
  auto fit =
      engine->kmeans_file(a.input, options, a.labels, static_cast<std::uint64_t>(a.memory) << 20);
  clear_status();
  if (!fit) return tl::unexpected(fit.error());
  Json outputs = Json::object();
  if (auto ok = write_outputs({{"centroids", a.centroids, fit->centroids}}, outputs); !ok)
    return tl::unexpected(ok.error());
  if (!a.labels.empty()) outputs["labels"] = a.labels;
  Json doc = document("kmeans");
  add_run_info(doc, "kmeans", fit->info);
  doc["outputs"] = outputs;
  doc["k"] = a.k;
  doc["inertia"] = fit->inertia;
  doc["n_iter"] = fit->n_iter;
  doc["converged"] = fit->converged;
  doc["empty_clusters"] = fit->empty_clusters;
  std::string text = run_info_text(fit->info) + '\n';
  text += fmt::format("{} clusters of {}: inertia {:.9g}, {} iterations, {}\n", a.k, a.input,
                      fit->inertia, fit->n_iter,
                      fit->converged ? "converged" : "not converged (see --max-iter)");
  for (const auto &[slot, path] : outputs.items())
    text += fmt::format("{}: {}\n", slot, path.get<std::string>());
  print_result(common, doc, text);
  return 0;
}

Outcome run(const Arguments &a, const Common &common) {
  if (auto ok = check(a, common); !ok) return tl::unexpected(ok.error());
  KMeansOptions options;
  options.k = a.k;
  options.init = a.init;
  options.n_init = a.n_init;
  options.max_iter = a.max_iter;
  options.tol = a.tol;
  options.seed = common.seed.value_or(0);
  options.int8 = a.int8;
  options.spherical = a.spherical;
  options.closest = !a.closest.empty();
  options.batch_size = a.batch_size;
  Tensor init;
  if (init_is_file(a.init)) {
    auto given = load_input(a.init, "f32");
    if (!given) return tl::unexpected(given.error());
    init = std::move(*given);
    options.init = "given";
    options.init_centroids = init;
  }
  if (a.stream) return run_stream(a, common, options);

  auto x = load_points(a.input, common.dtype);
  if (!x) return tl::unexpected(x.error());
  if (x->view().rank() != 2)
    return file_error(
        a.input,
        fmt::format("k-means takes rows of points [n, d]; this is {}", shape_text(x->shape())),
        ErrorCode::shape);
  const std::int64_t n = x->view().dim(0), d = x->view().dim(1);
  if (a.k > n)
    return fail(ErrorCode::usage,
                fmt::format("-k {}: {} has only {} rows; at most as many clusters are possible",
                            a.k, a.input, n));

  auto engine = make_engine(common);
  if (!engine) return tl::unexpected(engine.error());
  options.progress = progress_bar("k-means");
  auto fit = engine->kmeans(*x, options);
  clear_status();
  if (!fit) return tl::unexpected(fit.error());
  if (fit->cancelled) return cancelled_error();
  Tensor distances;
  if (!a.distances.empty()) {
    auto apart = engine->kmeans_transform(*x, fit->centroids);
    if (!apart) return tl::unexpected(apart.error());
    distances = std::move(*apart);
  }

  Json outputs = Json::object();
  if (auto ok = write_outputs({{"labels", a.labels, fit->labels},
                               {"centroids", a.centroids, fit->centroids},
                               {"closest", a.closest, fit->closest_rows},
                               {"distances", a.distances, distances}},
                              outputs);
      !ok)
    return tl::unexpected(ok.error());
  if (!a.picture.empty()) {
    if (auto ok = write_clustered_picture(a.picture, a.input, fit->labels, fit->centroids); !ok)
      return tl::unexpected(ok.error());
    outputs["picture"] = a.picture;
  }

  Rivals rivals(engine->options(), *engine);
  KMeansOptions part = options;
  part.n_init = 1;
  part.max_iter = std::min(a.max_iter, kCompareIterations);
  const auto compared = compare_with_reference(rivals, fit->info, [&](Engine &reference) {
    return compare_kmeans(*engine, reference, *x, part, kCompareWork / kCompareIterations / a.k);
  });

  Json doc = document("kmeans");
  add_run_info(doc, "kmeans", fit->info);
  doc["shape"] = shape_json(x->shape());
  doc["dtype"] = to_string(x->dtype());
  doc["outputs"] = outputs;
  doc["k"] = a.k;
  doc["inertia"] = fit->inertia;
  doc["n_iter"] = fit->n_iter;
  doc["converged"] = fit->converged;
  doc["empty_clusters"] = fit->empty_clusters;
  add_comparison(doc, compared);

  std::string text = run_info_text(fit->info) + '\n';
  if (compared) text += compared->text() + '\n';
  text += fmt::format(
      "{} clusters of {} points in {} dimensions: inertia {:.9g}, {} iterations, {}\n", a.k, n, d,
      fit->inertia, fit->n_iter, fit->converged ? "converged" : "not converged (see --max-iter)");
  for (const auto &[slot, path] : outputs.items())
    text += fmt::format("{}: {}\n", slot, path.get<std::string>());
  print_result(common, doc, text);
  return 0;
}

}  // namespace

void add_kmeans(Program &program) {
  auto a = std::make_shared<Arguments>();
  CLI::App *app = add_command(program, nullptr, "kmeans", "Cluster the rows of an array",
                              [a, &program] { return run(*a, program.common); });
  app->add_option("IN", a->input,
                  "Points [n, d], f32 (.npy, .npz:KEY, .safetensors:NAME), or a picture (.png)")
      ->required();
  app->add_option("-k", a->k, "Number of clusters")->required()->type_name("K");
  app->add_option("--init", a->init,
                  "k-means++ (default), k-means||, random, or a file of centroids [k, d]")
      ->type_name("METHOD|FILE");
  app->add_option("--n-init", a->n_init, "Runs, of which the best is kept; default 1")
      ->type_name("N");
  app->add_option("--max-iter", a->max_iter, "Most iterations of a run; default 300")
      ->type_name("N");
  app->add_option("--tol", a->tol,
                  "Stop when centroids move less than this share of the variance; default 1e-4")
      ->type_name("T");
  app->add_flag("--int8", a->int8, "Iterate with labels from 8-bit codes; the last ones are exact");
  app->add_option("--labels", a->labels, "Write labels, i32 [n]")->type_name("FILE.npy");
  app->add_option("--centroids", a->centroids, "Write centroids, f32 [k, d]")
      ->type_name("FILE.npy");
  app->add_option("--closest", a->closest, "Write the row closest to each centroid, i64 [k]")
      ->type_name("FILE.npy");
  app->add_option("--distances", a->distances, "Write all distances to centroids, f32 [n, k]")
      ->type_name("FILE.npy");
  app->add_option("--picture", a->picture,
                  "Of a picture IN: write it with each pixel in its cluster's colour")
      ->type_name("FILE.png");
  app->add_flag("--spherical", a->spherical, "Cluster directions: rows and centroids of length 1");
  app->add_option("--batch-size", a->batch_size,
                  "Mini-batches of so many rows, drawn at random; --max-iter counts them")
      ->type_name("N");
  app->add_flag("--stream", a->stream, "Read the .npy file in pieces: it need not fit in memory");
  app->add_option("--memory", a->memory, "MiB that --stream may use; default 256")
      ->type_name("MIB");
}

}  // namespace switchyard::cli
