// SPDX-License-Identifier: Apache-2.0
#include "limits.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <thread>

#include "text.hpp"

namespace switchyard::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr double kSeconds = 0.08;  // of each measurement

/// Sums 64-bit words in eight independent chains, so that loads and not adds are the limit.
std::uint64_t read_all(const std::uint64_t *p, std::size_t words) noexcept {
  std::uint64_t s[8] = {};
  for (std::size_t i = 0; i + 8 <= words; i += 8)
    for (std::size_t j = 0; j < 8; ++j) s[j] ^= p[i + j];
  return s[0] ^ s[1] ^ s[2] ^ s[3] ^ s[4] ^ s[5] ^ s[6] ^ s[7];
}

/// Bytes per second of all threads together, each on its own buffer.
double bandwidth(bool copy, std::size_t bytes, int threads) {
  std::atomic<int> ready{0};
  std::atomic<std::uint64_t> sink{0};
  std::vector<double> rates(static_cast<std::size_t>(threads));
  const auto work = [&](std::size_t index) {
    const std::size_t words =
        std::max<std::size_t>(64, bytes / sizeof(std::uint64_t) / (copy ? 2 : 1));
    std::vector<std::uint64_t> a(words, index + 1), b(copy ? words : 0, 0);
    ready.fetch_add(1);
    while (ready.load() < threads) std::this_thread::yield();
    std::uint64_t rounds = 0, sum = 0;
    const auto start = Clock::now();
    double seconds = 0;
    do {
      if (copy) {
        std::memcpy(b.data(), a.data(), words * sizeof(std::uint64_t));
        sum ^= b[rounds % words];
      } else {
        sum ^= read_all(a.data(), words);
      }
      ++rounds;
      seconds = std::chrono::duration<double>(Clock::now() - start).count();
    } while (seconds < kSeconds);
    sink.fetch_xor(sum);
    const double moved =
        static_cast<double>(rounds) * static_cast<double>(words) * 8 * (copy ? 2 : 1);
    rates[index] = moved / seconds;
  };
  std::vector<std::thread> team;
  for (std::size_t i = 1; i < static_cast<std::size_t>(threads); ++i) team.emplace_back(work, i);
  work(0);
  for (std::thread &t : team) t.join();
  double total = 0;
  for (double rate : rates) total += rate;
  return total;
}

}  // namespace

std::vector<Limit> measure_limits(const MachineReport &machine, int threads) {
  std::vector<std::pair<std::string, std::uint64_t>> sets;
  std::uint64_t largest = 0;
  for (const auto &[name, bytes] : machine.caches) {
    sets.emplace_back(name, bytes / 2);
    largest = std::max(largest, bytes);
  }
  // Well past the last cache, but never a large share of the memory.
  sets.emplace_back(
      "memory",
      std::min<std::uint64_t>(std::max<std::uint64_t>(largest * 4, 64 << 20), machine.memory / 16));
  std::vector<Limit> out;
  std::vector<int> teams{1};
  if (threads > 1) teams.push_back(threads);
  for (const auto &[name, bytes] : sets)
    for (const bool copy : {false, true})
      for (const int team : teams) {
        double best = 0;
        for (int i = 0; i < 3; ++i)
          best = std::max(best, bandwidth(copy, static_cast<std::size_t>(bytes), team));
        out.push_back({copy ? "copy" : "read", name, bytes, team, best / 1e9});
      }
  return out;
}

Json limits_json(const std::vector<Limit> &limits) {
  Json list = Json::array();
  for (const Limit &l : limits)
    list.push_back(Json{{"what", l.what},
                        {"where", l.where},
                        {"bytes", l.bytes},
                        {"threads", l.threads},
                        {"gb_per_s", l.gb_per_s}});
  return list;
}

std::string limits_text(const std::vector<Limit> &limits) {
  Table table({"working set", "", "kind", "threads", "GB/s"}, "lrlrr");
  for (const Limit &l : limits)
    table.add({l.where, byte_size(static_cast<double>(l.bytes)), l.what, std::to_string(l.threads),
               fmt::format("{:.1f}", l.gb_per_s)});
  return table.text("  ");
}

}  // namespace switchyard::cli
