// SPDX-License-Identifier: Apache-2.0
#include "measure.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <fstream>
#include <switchyard/tensor.hpp>
#include <thread>
#ifdef SWITCHYARD_X86_LIMITS
#include <cpuid.h>
#endif

#include "host/host.hpp"
#include "kernels.hpp"
#include "machine/machine.hpp"

namespace switchyard::limits {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kRuns = 10;  // short ones: other programs' turns must fit between two

struct Available {
  const MemoryKernels *memory = &memory_baseline;
  std::vector<const ComputeKernel *> compute;
};

Available available() {
  Available out;
  const ComputeKernel *f32 = &f32_baseline, *f64 = &f64_baseline;
#ifdef SWITCHYARD_X86_LIMITS
  __builtin_cpu_init();
  const auto has_avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                        __builtin_cpu_supports("f16c") && __builtin_cpu_supports("bmi2");
  const auto has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") &&
                          __builtin_cpu_supports("avx512cd") &&
                          __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (has_avx2) out.memory = &memory_avx2, f32 = &f32_avx2, f64 = &f64_avx2;
  if (has_avx512) {
    out.memory = &memory_avx512, f32 = &f32_avx512, f64 = &f64_avx512;
    if (__builtin_cpu_supports("avx512bf16")) out.compute.push_back(&bf16_avx512);
    if (__builtin_cpu_supports("avx512vnni")) out.compute.push_back(&int8_avx512);
    unsigned a = 0, b = 0, c = 0, d = 0;
    constexpr unsigned kBf16 = 1u << 22, kTile = 1u << 24, kInt8 = 1u << 25;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kTile) && request_amx() == SY_OK) {
      if (d & kBf16) out.compute.push_back(&bf16_amx);
      if (d & kInt8) out.compute.push_back(&int8_amx);
    }
  }
#endif
  out.compute.insert(out.compute.begin(), {f32, f64});
  return out;
}

std::string first_line(const std::string &path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::uint64_t to_bytes(const std::string &text) {
  char *end = nullptr;
  const std::uint64_t value = std::strtoull(text.c_str(), &end, 10);
  if (end == text.c_str()) return 0;
  return *end == 'K' ? value << 10 : *end == 'M' ? value << 20 : value;
}

/// Work a second of all threads together, each doing `work(thread)` again and again for `seconds`.
/// All start at once; what one call did is what `work` returns.
template <class Work>
double rate(int threads, double seconds, const Work &work) {
  std::atomic<int> ready{0};
  std::vector<double> rates(static_cast<std::size_t>(threads));
  const auto member = [&](std::size_t index) {
    work(index);  // touches its memory, and wakes the wide units
    ready.fetch_add(1);
    while (ready.load() < threads) std::this_thread::yield();
    double done = 0, took = 0;
    const auto start = Clock::now();
    do {
      done += work(index);
      took = std::chrono::duration<double>(Clock::now() - start).count();
    } while (took < seconds);
    rates[index] = done / took;
  };
  std::vector<std::thread> team;
  for (std::size_t i = 1; i < static_cast<std::size_t>(threads); ++i) team.emplace_back(member, i);
  member(0);
  for (std::thread &t : team) t.join();
  double total = 0;
  for (const double r : rates) total += r;
  return total;
}

template <class Work>
double best_rate(int threads, double seconds, const Work &work) {
  double best = 0;
  for (int i = 0; i < kRuns; ++i) best = std::max(best, rate(threads, seconds / kRuns, work));
  return best;
}

std::uint64_t memory_bytes() {
  return static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
         static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
}

/// One level with one number of threads.
Result<BandwidthLimit> level(const MemoryKernels &kernels, const Cache &cache, std::uint64_t each,
                             int threads, double seconds) {
  BandwidthLimit out;
  out.level = cache.name;
  out.threads = threads;
  const auto team = static_cast<std::uint64_t>(threads);
  out.capacity = cache.bytes == 0 ? 0 : cache.shared ? cache.bytes : cache.bytes * team;
  each = std::max<std::uint64_t>(each / (2 * kChunk), 1) * (2 * kChunk);
  out.bytes = each * team;
  std::vector<Tensor> memory(static_cast<std::size_t>(threads));
  for (Tensor &m : memory) {
    auto made = Tensor::zeros(dtypes::u8, std::array{static_cast<std::int64_t>(each)});
    if (!made) return tl::unexpected(made.error());
    m = std::move(*made);
  }
  // Short working sets go round many times between two looks at the clock.
  const std::uint64_t loops = std::max<std::uint64_t>(1, (1u << 20) / each);
  const auto moved = static_cast<double>(each * loops);
  std::atomic<std::uint64_t> sink{0};
  out.read = best_rate(threads, seconds, [&](std::size_t i) {
    std::uint64_t sum = 0;
    for (std::uint64_t l = 0; l < loops; ++l) sum += kernels.read(memory[i].data(), each);
    sink.fetch_add(sum, std::memory_order_relaxed);
    return moved;
  });
  const auto writing = [&](auto *kernel) {
    return best_rate(threads, seconds, [&](std::size_t i) {
      for (std::uint64_t l = 0; l < loops; ++l) kernel(memory[i].data(), each, l);
      return moved;
    });
  };
  const auto copying = [&](auto *kernel) {
    return best_rate(threads, seconds, [&](std::size_t i) {
      auto *p = memory[i].data<std::byte>();
      for (std::uint64_t l = 0; l < loops; ++l) kernel(p + each / 2, p, each / 2);
      return moved;
    });
  };
  out.write = writing(kernels.write);
  out.copy = copying(kernels.copy);
  if (cache.bytes == 0) {  // past the caches, stores that go around them may win
    out.write = std::max(out.write, writing(kernels.stream));
    out.copy = std::max(out.copy, copying(kernels.stream_copy));
  }
  return out;
}

ComputeLimit compute(const ComputeKernel &kernel, int threads, double seconds) {
  constexpr std::uint64_t kRounds = 20'000;  // some 100 us between two looks at the clock
  std::vector<float> sinks(static_cast<std::size_t>(threads) * 16);
  const double ops = best_rate(threads, seconds, [&](std::size_t i) {
    kernel.run(kRounds, &sinks[i * 16]);
    return static_cast<double>(kRounds) * kernel.ops_per_round;
  });
  return {kernel.kind, kernel.isa, threads, ops};
}

}  // namespace

std::vector<Cache> caches() {
  std::vector<Cache> out;
  for (int i = 0; i < 8; ++i) {
    const std::string dir = fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}/", i);
    const std::string number = first_line(dir + "level"), type = first_line(dir + "type");
    const std::uint64_t bytes = to_bytes(first_line(dir + "size"));
    if (number.empty() || type == "Instruction" || bytes == 0) continue;
    // Hyper-threads of one core share its caches; only more processors than that share with others.
    out.push_back({"L" + number + (type == "Data" ? "d" : ""), bytes,
                   first_line(dir + "shared_cpu_list") !=
                       first_line("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")});
  }
  return out;
}

Result<MachineLimits> measure(int threads, double seconds, const Watch &watch) {
  const Available kernels = available();
  MachineLimits out;
  out.fingerprint = machine().fingerprint;
  out.cpu = machine().cpu;
  std::vector<int> teams;
  for (int n = 1; n < threads; n *= 2) teams.push_back(n);
  teams.push_back(std::max(threads, 1));
  std::vector<Cache> levels = caches();
  std::uint64_t largest = 0;
  for (const Cache &c : levels) largest = std::max(largest, c.bytes);
  levels.push_back({"memory", 0, true});
  const auto go_on = [&](const std::string &what) { return !watch || watch(what); };
  for (const int team : teams) {
    for (const Cache &c : levels) {
      if (!go_on(fmt::format("{} bandwidth, {} threads", c.name, team)))
        return fail(ErrorCode::cancelled, "the measurement was stopped");
      const auto members = static_cast<std::uint64_t>(team);
      std::uint64_t each = c.shared ? c.bytes / 2 / members : c.bytes / 2;
      // Well past the last cache, but never a large share of the memory.
      if (c.bytes == 0)
        each =
            std::min(std::max<std::uint64_t>(largest * 4, 64 << 20), memory_bytes() / 8) / members;
      auto made = level(*kernels.memory, c, each, team, seconds);
      if (!made) return tl::unexpected(made.error());
      out.bandwidth.push_back(std::move(*made));
    }
    for (const ComputeKernel *kernel : kernels.compute) {
      if (!go_on(fmt::format("{} arithmetic, {} threads", kernel->kind, team)))
        return fail(ErrorCode::cancelled, "the measurement was stopped");
      ComputeLimit limit = compute(*kernel, team, seconds);
      const auto same = std::ranges::find_if(out.compute, [&](const ComputeLimit &c) {
        return c.kind == limit.kind && c.threads == limit.threads;
      });
      if (same == out.compute.end())
        out.compute.push_back(std::move(limit));
      else if (limit.ops > same->ops)  // two instruction sets for one type: the faster counts
        *same = std::move(limit);
    }
  }
  return out;
}

}  // namespace switchyard::limits

namespace switchyard {

Result<MachineLimits> machine_limits(bool cached_only, const std::string &cache_dir, int threads) {
  auto kept = cached_limits(cache_dir);
  if (kept || cached_only) return kept;
  auto measured = limits::measure(threads);
  if (!measured) return measured;
  if (const auto ok = keep_limits(cache_dir, *measured); !ok) return tl::unexpected(ok.error());
  return measured;
}

}  // namespace switchyard
