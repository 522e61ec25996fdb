// SPDX-License-Identifier: Apache-2.0
// A host with a pool of its own, and Switchyard in the same process. The same k-means passes are
// done (a) by the host's pool alone: its threads share the work, each calls Switchyard with one
// thread; (b) by Switchyard alone with all threads; (c) by both at once: the host's threads call it
// while each call may use all threads. Turns a, b, c; minima. Exit status 1 where (c) takes more
// than 10 % longer than the better of (a) and (b).
//
//     oversubscription_bench [seconds]

#include <omp.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <switchyard/engine.hpp>
#include <thread>
#include <vector>

#include "base/call_frame.hpp"

namespace switchyard {
namespace {

constexpr std::int64_t kRows = 40'000, kColumns = 32, kClusters = 64;
constexpr int kPieces = 8;  // of the rows, which the host's pool hands out

class Piece {
 public:
  Piece(const Tensor &x, const Tensor &centroids, std::int64_t first, std::int64_t rows,
        std::uint32_t threads)
      : labels_(static_cast<std::size_t>(rows)) {
    frame_.input(SY_KMEANS_IN_X, TensorView(x.data<float>() + first * kColumns, {rows, kColumns}));
    frame_.input(SY_KMEANS_IN_CENTROIDS, centroids);
    frame_.output(SY_KMEANS_ASSIGN_OUT_LABELS,
                  TensorView(labels_.data(), dtypes::i32, std::array{rows}));
    frame_.params(params_);
    frame_.call().threads = threads;
  }
  bool run(Engine &engine) { return engine.run(SY_OP_KMEANS_ASSIGN, frame_.call()) == SY_OK; }

 private:
  std::vector<std::int32_t> labels_;
  sy_kmeans_params params_{};
  CallFrame frame_{SY_KMEANS_ASSIGN_INPUTS, SY_KMEANS_ASSIGN_OUTPUTS};
};

using Pieces = std::vector<std::unique_ptr<Piece>>;

double ms_of(const std::function<void()> &work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

/// Each thread of the host's pool takes the next piece.
void by_openmp(Engine &engine, Pieces &pieces, int threads, std::atomic<bool> &fine) {
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int i = 0; i < static_cast<int>(pieces.size()); ++i)
    if (!pieces[static_cast<std::size_t>(i)]->run(engine)) fine = false;
}

void by_threads(Engine &engine, Pieces &pieces, int threads, std::atomic<bool> &fine) {
  std::atomic<std::size_t> next{0};
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t)
    pool.emplace_back([&] {
      for (std::size_t i; (i = next.fetch_add(1)) < pieces.size();)
        if (!pieces[i]->run(engine)) fine = false;
    });
  for (auto &t : pool) t.join();
}

int compare(double seconds) {
  auto x = Tensor::empty(dtypes::f32, std::array{kRows, kColumns});
  auto centroids = Tensor::empty(dtypes::f32, std::array{kClusters, kColumns});
  if (!x || !centroids) return 2;
  for (std::int64_t i = 0; i < x->elements(); ++i)
    x->data<float>()[i] = static_cast<float>(i * 7919 % 1009);
  for (std::int64_t i = 0; i < centroids->elements(); ++i)
    centroids->data<float>()[i] = static_cast<float>(i * 31 % 1009);
  auto engine = Engine::create();
  if (!engine) return std::fprintf(stderr, "%s\n", engine.error().text().c_str()), 2;
  const int threads = engine->threads();
  const auto all = static_cast<std::uint32_t>(threads);
  Pieces single, wide;
  for (int p = 0; p < kPieces; ++p) {
    const std::int64_t rows = kRows / kPieces;
    single.push_back(std::make_unique<Piece>(*x, *centroids, p * rows, rows, 1));
    wide.push_back(std::make_unique<Piece>(*x, *centroids, p * rows, rows, all));
  }
  Piece whole(*x, *centroids, 0, kRows, all);
  std::atomic<bool> fine{true};
  struct Way {
    const char *name;
    std::function<void()> run;
    double least = 1e30;
  };
  std::array ways{
      Way{"host's OpenMP alone", [&] { by_openmp(*engine, single, threads, fine); }},
      Way{"host's threads alone", [&] { by_threads(*engine, single, threads, fine); }},
      Way{"Switchyard alone", [&] { fine = whole.run(*engine) && fine; }},
      Way{"OpenMP and Switchyard", [&] { by_openmp(*engine, wide, threads, fine); }},
      Way{"threads and Switchyard", [&] { by_threads(*engine, wide, threads, fine); }},
  };
  for (int turn = 0; turn < 40; ++turn)  // decides
    for (Way &w : ways) w.run();
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (std::chrono::steady_clock::now() < end)
    for (Way &w : ways) w.least = std::min(w.least, ms_of(w.run));
  for (const Way &w : ways) std::printf("%-24s %8.3f ms\n", w.name, w.least);
  const double openmp = ways[3].least / std::min(ways[0].least, ways[2].least);
  const double plain = ways[4].least / std::min(ways[1].least, ways[2].least);
  std::printf(
      "together, over the better of the two alone: OpenMP %.3f, threads %.3f (%d threads)\n",
      openmp, plain, threads);
  return fine && openmp <= 1.1 && plain <= 1.1 ? 0 : 1;
}

}  // namespace
}  // namespace switchyard

int main(int argc, char **argv) { return switchyard::compare(argc > 1 ? std::atof(argv[1]) : 10); }
