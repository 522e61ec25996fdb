// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <charconv>
#include <fstream>
#include <optional>
#include <switchyard/batch.hpp>

#include "machine/machine.hpp"

namespace switchyard {
namespace {

std::optional<std::uint64_t> number_in(const std::string &path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value);
  return error == std::errc{} && end != line.data() ? std::optional(value) : std::nullopt;
}

/// Kilobytes after `name` in /proc/meminfo or memory.stat-like files, as bytes.
std::optional<std::uint64_t> field(const std::string &path, std::string_view name,
                                   std::uint64_t unit) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.rfind(name, 0) != 0 || line.size() <= name.size()) continue;
    const auto digit = line.find_first_of("0123456789", name.size());
    std::uint64_t value = 0;
    if (digit != std::string::npos &&
        std::from_chars(line.data() + digit, line.data() + line.size(), value).ec == std::errc{})
      return value * unit;
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::uint64_t> cgroup_memory_left(const std::string &directory) {
  // The kernel gives file pages back before it runs out of memory: they count as free.
  const auto left = [&](const char *limit, const char *usage, const char *cache) {
    const auto most = number_in(directory + limit), used = number_in(directory + usage);
    if (!most || !used || *most > (std::uint64_t{1} << 60)) return std::optional<std::uint64_t>();
    const std::uint64_t pages = field(directory + "/memory.stat", cache, 1).value_or(0);
    const std::uint64_t firm = *used - std::min(pages, *used);
    return std::optional(*most - std::min(firm, *most));
  };
  if (const auto two = left("/memory.max", "/memory.current", "inactive_file ")) return two;
  return left("/memory.limit_in_bytes", "/memory.usage_in_bytes", "total_inactive_file ");
}

std::uint64_t available_memory() {
  std::optional<std::uint64_t> least = field("/proc/meminfo", "MemAvailable:", 1024);
  const auto tighten = [&](const std::string &directory) {
    if (const auto left = cgroup_memory_left(directory))
      least = least ? std::min(*least, *left) : *left;
  };
  std::ifstream self("/proc/self/cgroup");
  for (std::string line; std::getline(self, line);) {
    const bool two = line.rfind("0::", 0) == 0;
    const auto memory = line.find(":memory:");
    if (!two && memory == std::string::npos) continue;
    std::string path = two ? line.substr(3) : line.substr(memory + 8);
    while (true) {
      tighten((two ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory") + path);
      const auto slash = path.rfind('/');
      if (path.empty() || slash == std::string::npos) break;
      path.resize(slash);
    }
  }
  return least.value_or(0);
}

}  // namespace switchyard
