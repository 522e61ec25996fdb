// SPDX-License-Identifier: Apache-2.0
/// kmeans.seed: kernels/kmeans_seed.cl. Distances, chances and their sums are the device's; the
/// host draws, from sums of blocks of rows.
#include <switchyard/ops/kmeans.h>
#include <switchyard/ops/kmeans_exact.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <numeric>

#include "distances.hpp"
#include "instance.hpp"
#include "launch.hpp"

namespace switchyard::opencl {
namespace {

constexpr int kMostTrials = 32;                        // more than any k has
constexpr std::int64_t kMost = std::int64_t{1} << 30;  // columns count in 32 bits

/// Rows whose chances one work-item adds up.
std::int64_t block_rows(const Description &about) { return about.is_cpu() ? 1024 : 64; }

int trials_of(std::int64_t k) { return 2 + sy_kmeans_floor_ln(k); }

std::int32_t supports(const KernelDef &, const Description &about, const sy_call &call,
                      sy_error *reason) {
  if (const std::int32_t status = exact_distances(about, reason); status != SY_OK) return status;
  if (!about.fp64)
    return cpu::failure(reason, SY_E_UNSUPPORTED,
                        "the device has no f64, which chances are taken in");
  if (call.inputs[SY_KMEANS_SEED_IN_X]->shape[1] >= kMost)
    return cpu::failure(reason, SY_E_UNSUPPORTED, "more than 2^30 columns");
  return SY_OK;
}

/// Of one row against one other on one unit.
double pair_ns(std::int64_t d) { return 3 + 0.05 * static_cast<double>((d + 15) / 16 * 16); }

std::uint64_t estimate(const KernelDef &, const Description &about, const sy_call &call) {
  const sy_tensor &x = *call.inputs[SY_KMEANS_SEED_IN_X];
  const std::int64_t k = call.outputs[SY_KMEANS_SEED_OUT_ROWS]->shape[0];
  const double n = static_cast<double>(x.shape[0]), steps = static_cast<double>(k);
  double ns = steps * (8 * kLaunchNs + n * (trials_of(k) + 2) * pair_ns(x.shape[1]) / about.units);
  if (!about.unified) ns += n * 4 * static_cast<double>(x.shape[1]) / kTransferBytesPerNs;
  return static_cast<std::uint64_t>(ns);
}

class Seeding {
 public:
  Seeding(Device &device, const sy_call &call, sy_error *error)
      : job_(device, call, error),
        n_(call.inputs[SY_KMEANS_SEED_IN_X]->shape[0]),
        d_(call.inputs[SY_KMEANS_SEED_IN_X]->shape[1]),
        k_(call.outputs[SY_KMEANS_SEED_OUT_ROWS]->shape[0]),
        rows_of_block_(block_rows(device.about())),
        blocks_((n_ + rows_of_block_ - 1) / rows_of_block_),
        params_(*static_cast<const sy_kmeans_seed_params *>(call.params)),
        x_(job_.input(call.inputs[SY_KMEANS_SEED_IN_X])),
        weights_(job_.input(input_of(call, SY_KMEANS_SEED_IN_WEIGHTS))),
        out_(job_.output(call.outputs[SY_KMEANS_SEED_OUT_ROWS])),
        options_("-DBLOCK=" + std::to_string(rows_of_block_) +
                 "L -DTRIALS=" + std::to_string(kMostTrials)) {}

  std::int32_t run() {
    nearest_ = job_.scratch(bytes_of(n_, sizeof(float)));
    largest_ = job_.scratch(bytes_of(blocks_, sizeof(double)));
    sums_ = job_.scratch(bytes_of(blocks_ * kMostTrials, sizeof(std::uint64_t)));
    points_ = job_.scratch(bytes_of(kMostTrials, sizeof(std::uint64_t)));
    drawn_ = job_.scratch(bytes_of(kMostTrials, sizeof(std::int64_t)));
    constexpr std::uint32_t kOne = 0x3F800000;  // 1.0f
    job_.fill(nearest_, kOne, bytes_of(n_, sizeof(float)));
    std::vector<std::int64_t> rows(static_cast<std::size_t>(k_));
    std::int64_t taken = -1;
    for (std::int64_t j = 0; j < k_ && job_.ok(); ++j) {
      take(taken, j == 1);
      taken = rows[static_cast<std::size_t>(j)] = step(j);
      job_.settle();
      job_.poll(static_cast<double>(j + 1) / static_cast<double>(k_));
    }
    job_.write(out_.mem, static_cast<std::uint64_t>(out_.offset), rows.data(),
               bytes_of(k_, sizeof(std::int64_t)));
    return job_.finish();
  }

 private:
  void kernel(const char *name) { job_.kernel("kmeans_seed.cl", options_, name); }
  Job &matrix() {
    return job_.arg(n_).arg(static_cast<std::int32_t>(d_)).arg(n_ > 1 ? x_.strides[0] : 0).arg(x_);
  }
  Job &weights() {
    return job_.arg(static_cast<std::int32_t>(weights_.present() ? 1 : 0)).arg(weights_);
  }
  void over_blocks(double block_ns) {
    const std::int64_t group = job_.group();
    job_.run(0, static_cast<std::uint64_t>((blocks_ + group - 1) / group), block_ns);
  }

  /// Takes a row (-1 = none yet) and finds the scale of the next step's chances.
  void take(std::int64_t row, bool fresh) {
    kernel("take");
    matrix().arg(row).arg(static_cast<std::int32_t>(fresh ? 1 : 0));
    weights().arg(nearest_).arg(largest_);
    over_blocks(0);
    std::vector<double> largest(static_cast<std::size_t>(blocks_));
    job_.read(largest_, 0, largest.data(), bytes_of(blocks_, sizeof(double)));
    scale_ = std::ldexp(1.0, sy_kmeans_shift(*std::ranges::max_element(largest), n_));
  }

  /// The row that step j draws.
  std::int64_t step(std::int64_t j) {
    kernel("chances");
    job_.arg(n_).arg(scale_);
    weights().arg(nearest_).arg(sums_);
    over_blocks(0);
    std::vector<std::uint64_t> sums(static_cast<std::size_t>(blocks_));
    job_.read(sums_, 0, sums.data(), bytes_of(blocks_, sizeof(std::uint64_t)));
    if (!job_.ok()) return 0;
    const std::uint64_t total = std::accumulate(sums.begin(), sums.end(), std::uint64_t{0});
    const int trials = j == 0 ? 1 : trials_of(k_);
    std::array<std::uint64_t, kMostTrials> points{};
    std::array<std::int64_t, kMostTrials> drawn{};
    for (int t = 0; t < trials; ++t) {
      sy_kmeans_draws draws{params_.seed, params_.run, static_cast<std::uint32_t>(j),
                            static_cast<std::uint32_t>(t), 0};
      if (total == 0)
        return static_cast<std::int64_t>(sy_kmeans_below(&draws, static_cast<std::uint64_t>(n_)));
      std::uint64_t point = sy_kmeans_below(&draws, total);
      std::size_t block = 0;
      for (; point >= sums[block]; ++block) point -= sums[block];
      points[static_cast<std::size_t>(t)] = point;
      drawn[static_cast<std::size_t>(t)] = static_cast<std::int64_t>(block) * rows_of_block_;
    }
    job_.write(points_, 0, points.data(), sizeof(points));
    job_.write(drawn_, 0, drawn.data(), sizeof(drawn));
    kernel("draw");
    job_.arg(static_cast<std::int32_t>(trials)).arg(n_).arg(scale_);
    weights().arg(nearest_).arg(points_).arg(drawn_);
    const std::uint32_t group = job_.group();
    job_.run(0, (static_cast<std::uint64_t>(trials) + group - 1) / group, 0);
    const std::size_t best = trials == 1 ? 0 : least_potential(trials);
    job_.read(drawn_, 0, drawn.data(), sizeof(drawn));
    return drawn[best];
  }

  std::size_t least_potential(int trials) {
    kernel("consider");
    matrix().arg(static_cast<std::int32_t>(trials)).arg(scale_);
    weights().arg(nearest_).arg(drawn_).arg(blocks_).arg(sums_);
    over_blocks(static_cast<double>(rows_of_block_ * trials) * pair_ns(d_));
    std::vector<std::uint64_t> parts(static_cast<std::size_t>(blocks_ * trials));
    job_.read(sums_, 0, parts.data(), bytes_of(blocks_ * trials, sizeof(std::uint64_t)));
    std::size_t best = 0;
    std::uint64_t least = 0;
    for (std::size_t t = 0; t < static_cast<std::size_t>(trials); ++t) {
      const auto from = parts.begin() + static_cast<std::ptrdiff_t>(t) * blocks_;
      const std::uint64_t potential = std::accumulate(from, from + blocks_, std::uint64_t{0});
      if (t > 0 && potential >= least) continue;
      least = potential;
      best = t;
    }
    return best;
  }

  Job job_;
  const std::int64_t n_, d_, k_, rows_of_block_, blocks_;
  const sy_kmeans_seed_params &params_;
  const Array x_, weights_, out_;
  const std::string options_;
  cl_mem nearest_ = nullptr;                   ///< f32 [n]
  cl_mem largest_ = nullptr;                   ///< f64 [blocks]
  cl_mem sums_ = nullptr;                      ///< u64 [trials, blocks]
  cl_mem points_ = nullptr, drawn_ = nullptr;  ///< u64 and i64 [trials]
  double scale_ = 1;
};

std::int32_t run(const KernelDef &, Device &device, const sy_call &call, sy_error *error) {
  return Seeding(device, call, error).run();
}

constexpr KernelDef kKernels[] = {
    {SY_OP_KMEANS_SEED, "kmeans.seed.f32_i64.blocks", true, 0, supports, estimate, run},
};

}  // namespace

KernelList kmeans_seed_kernels() noexcept { return {kKernels, std::size(kKernels)}; }

}  // namespace switchyard::opencl
