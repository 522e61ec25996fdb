// SPDX-License-Identifier: Apache-2.0
#include "machine_report.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "text.hpp"

namespace switchyard::cli {
namespace {

namespace fs = std::filesystem;

std::string first_line(const fs::path &path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

std::uint64_t to_bytes(const std::string &text) {
  char *end = nullptr;
  const std::uint64_t value = std::strtoull(text.c_str(), &end, 10);
  if (end == nullptr || end == text.c_str()) return 0;
  if (*end == 'K') return value << 10;
  if (*end == 'M') return value << 20;
  return value;
}

void read_cpuinfo(Machine &m) {
  constexpr const char *interesting[] = {
      "sse4_2",      "avx",      "f16c",     "fma",        "avx2",        "avx_vnni",
      "avx512f",     "avx512bw", "avx512vl", "avx512vbmi", "avx512_vnni", "avx512_bf16",
      "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",   "asimd",       "sve"};
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    const auto colon = line.find(':');
    if (colon == std::string::npos) continue;
    const std::string name = line.substr(0, line.find_last_not_of(" \t", colon - 1) + 1);
    const std::string value = colon + 2 <= line.size() ? line.substr(colon + 2) : "";
    if (name == "model name" && m.cpu.empty()) m.cpu = value;
    if ((name == "flags" || name == "Features") && m.isa.empty()) {
      std::istringstream words(value);
      for (std::string word; words >> word;)
        if (std::ranges::find(interesting, word) != std::end(interesting)) m.isa.push_back(word);
    }
  }
}

void read_cgroup(Machine &m) {
  std::istringstream quota(first_line("/sys/fs/cgroup/cpu.max"));
  std::string limit;
  double period = 0;
  if (quota >> limit >> period && limit != "max" && period > 0)
    m.cgroup_cpus = std::strtod(limit.c_str(), nullptr) / period;
  const std::string memory = first_line("/sys/fs/cgroup/memory.max");
  if (!memory.empty() && memory != "max") m.cgroup_memory = to_bytes(memory);
}

void read_caches(Machine &m) {
  for (int i = 0; i < 8; ++i) {
    const fs::path dir = fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}", i);
    const std::string level = first_line(dir / "level"), type = first_line(dir / "type");
    if (level.empty() || type == "Instruction") continue;
    m.caches.emplace_back("L" + level + (type == "Data" ? "d" : ""),
                          to_bytes(first_line(dir / "size")));
  }
}

}  // namespace

Machine read_machine() {
  Machine m;
  utsname names;
  if (uname(&names) == 0)
    m.os = fmt::format("{} {} {}", names.sysname, names.release, names.machine);
  m.cores = static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN));
  cpu_set_t set;
  CPU_ZERO(&set);
  m.allowed = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : m.cores;
  m.memory = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
             static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  read_cpuinfo(m);
  read_cgroup(m);
  read_caches(m);
  return m;
}

Json machine_json(const Machine &m) {
  Json doc;
  doc["cpu"] = m.cpu;
  doc["os"] = m.os;
  doc["cores"] = m.cores;
  doc["allowed_cores"] = m.allowed;
  doc["cgroup_cpus"] = m.cgroup_cpus > 0 ? Json(m.cgroup_cpus) : Json(nullptr);
  doc["memory_bytes"] = m.memory;
  doc["cgroup_memory_bytes"] = m.cgroup_memory > 0 ? Json(m.cgroup_memory) : Json(nullptr);
  doc["isa"] = m.isa;
  doc["caches"] = Json::object();
  for (const auto &[name, bytes] : m.caches) doc["caches"][name] = bytes;
  return doc;
}

std::string machine_text(const Machine &m) {
  std::string text = fmt::format("cpu      {}\n", m.cpu.empty() ? "unknown" : m.cpu);
  text += fmt::format("cores    {} online, {} allowed here{}\n", m.cores, m.allowed,
                      m.cgroup_cpus > 0
                          ? fmt::format(", limited to {:.3g} by the control group", m.cgroup_cpus)
                          : "");
  text +=
      fmt::format("memory   {}{}\n", byte_size(static_cast<double>(m.memory)),
                  m.cgroup_memory > 0 ? fmt::format(", limited to {} by the control group",
                                                    byte_size(static_cast<double>(m.cgroup_memory)))
                                      : "");
  std::vector<std::string> caches;
  for (const auto &[name, bytes] : m.caches)
    caches.push_back(name + " " + byte_size(static_cast<double>(bytes)));
  text += fmt::format("caches   {}\n", fmt::join(caches, ", "));
  text += fmt::format("flags    {}\n", fmt::join(m.isa, " "));
  text += fmt::format("system   {}\n", m.os);
  return text;
}

Json plugins_json(const Engine &engine) {
  Json list = Json::array();
  for (const PluginInfo &p : engine.plugins()) {
    Json entry;
    entry["id"] = p.id;
    entry["version"] = p.version;
    entry["build_id"] = p.build_id;
    entry["path"] = p.path;
    entry["content_hash"] = p.content_hash;
    entry["status"] = p.status;
    entry["reason"] = p.reason.empty() ? Json(nullptr) : Json(p.reason);
    entry["instances"] = p.instances;
    entry["devices"] = p.devices;
    entry["kernels"] = p.kernels;
    list.push_back(std::move(entry));
  }
  return list;
}

std::string cache_directory(const Options &options) {
  if (options.cache_dir) return *options.cache_dir;
  if (const char *xdg = std::getenv("XDG_CACHE_HOME"); xdg != nullptr && *xdg == '/')
    return std::string(xdg) + "/switchyard";
  if (const char *home = std::getenv("HOME"); home != nullptr && *home == '/')
    return std::string(home) + "/.cache/switchyard";
  return {};
}

std::vector<std::string> openmp_runtimes() {
  std::vector<std::string> found;
  std::ifstream in("/proc/self/maps");
  for (std::string line; std::getline(in, line);) {
    const auto slash = line.find('/');
    if (slash == std::string::npos) continue;
    const std::string path = line.substr(slash);
    const std::string file = fs::path(path).filename().string();
    const bool runtime =
        file.starts_with("libgomp") || file.starts_with("libomp") || file.starts_with("libiomp");
    if (runtime && std::ranges::find(found, path) == found.end()) found.push_back(path);
  }
  return found;
}

}  // namespace switchyard::cli
