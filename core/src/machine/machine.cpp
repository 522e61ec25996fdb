// SPDX-License-Identifier: Apache-2.0
#include "machine/machine.hpp"

#include <fmt/format.h>
#include <hwloc.h>
#include <xxhash.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <thread>

namespace switchyard {
namespace {

std::string first_line(const std::string &path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// The tightest cpu.max from this process's cgroup up to the root (cgroup v2), or v1's quota.
double cgroup_quota() {
  double quota = 0;
  const auto tighten = [&quota](double q) {
    if (q > 0) quota = quota > 0 ? std::min(quota, q) : q;
  };
  std::ifstream self("/proc/self/cgroup");
  for (std::string line; std::getline(self, line);) {
    if (line.rfind("0::", 0) == 0) {
      std::string path = line.substr(3);
      while (true) {
        tighten(parse_cpu_max(first_line("/sys/fs/cgroup" + path + "/cpu.max")));
        const auto slash = path.rfind('/');
        if (path.empty() || slash == std::string::npos) break;
        path.resize(slash);
      }
    }
  }
  const std::string v1 = "/sys/fs/cgroup/cpu/";
  tighten(parse_cpu_max(first_line(v1 + "cpu.cfs_quota_us") + " " +
                        first_line(v1 + "cpu.cfs_period_us")));
  return quota;
}

struct CpuText {
  std::string model, flags;
};

CpuText read_cpuinfo() {
  CpuText text;
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const auto colon = line.find(": ");
    if (colon == std::string::npos) continue;
    if (text.model.empty() && line.rfind("model name", 0) == 0) text.model = line.substr(colon + 2);
    if (line.rfind("flags", 0) == 0 || line.rfind("Features", 0) == 0) {
      text.flags = line.substr(colon + 2);
      break;
    }
  }
  return text;
}

void count_with_hwloc(Machine &m) {
  hwloc_topology_t topology;
  if (hwloc_topology_init(&topology) != 0) return;
  // Only processing units and cores are asked for: the full discovery takes tens of milliseconds.
  hwloc_topology_set_all_types_filter(topology, HWLOC_TYPE_FILTER_KEEP_NONE);
  hwloc_topology_set_type_filter(topology, HWLOC_OBJ_CORE, HWLOC_TYPE_FILTER_KEEP_ALL);
  if (hwloc_topology_load(topology) == 0) {
    hwloc_cpuset_t bound = hwloc_bitmap_alloc();
    if (hwloc_get_cpubind(topology, bound, HWLOC_CPUBIND_PROCESS) != 0)
      hwloc_bitmap_copy(bound, hwloc_topology_get_allowed_cpuset(topology));
    hwloc_bitmap_and(bound, bound, hwloc_topology_get_allowed_cpuset(topology));
    const int cpus = hwloc_bitmap_weight(bound);
    if (cpus > 0) m.allowed_cpus = cpus;
    const int cores = hwloc_get_nbobjs_inside_cpuset_by_type(topology, bound, HWLOC_OBJ_CORE);
    m.allowed_cores = cores > 0 ? cores : m.allowed_cpus;
    hwloc_bitmap_free(bound);
  }
  hwloc_topology_destroy(topology);
}

Machine discover() {
  Machine m;
  m.logical_cpus = std::max(1u, std::thread::hardware_concurrency());
  m.allowed_cpus = m.allowed_cores = m.logical_cpus;
  count_with_hwloc(m);
  m.cgroup_cpus = cgroup_quota();
  m.thread_budget = m.allowed_cores;
  if (m.cgroup_cpus > 0)
    m.thread_budget =
        std::min(m.thread_budget, std::max(1, static_cast<int>(std::floor(m.cgroup_cpus + 0.01))));
  const CpuText text = read_cpuinfo();
  m.cpu = text.model.empty() ? "unknown processor" : text.model;
  const std::string all = fmt::format("{}|{}|{}", text.model, text.flags, m.allowed_cores);
  m.fingerprint = fmt::format("{:016x}", XXH3_64bits(all.data(), all.size()));
  return m;
}

}  // namespace

const Machine &machine() {
  static const Machine found = discover();
  return found;
}

double parse_cpu_max(std::string_view text) noexcept {
  const auto space = text.find(' ');
  if (space == std::string_view::npos) return 0;
  double quota = 0, period = 0;
  const auto parse = [](std::string_view s, double &out) {
    return std::from_chars(s.data(), s.data() + s.size(), out).ec == std::errc{};
  };
  if (!parse(text.substr(0, space), quota) || !parse(text.substr(space + 1), period)) return 0;
  return quota > 0 && period > 0 ? quota / period : 0;
}

}  // namespace switchyard
