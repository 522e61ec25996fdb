// SPDX-License-Identifier: Apache-2.0
#include "machine_report.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "machine/machine.hpp"
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

void read_flags(MachineReport &m) {
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
    if ((name == "flags" || name == "Features") && m.isa.empty()) {
      std::istringstream words(value);
      for (std::string word; words >> word;)
        if (std::ranges::find(interesting, word) != std::end(interesting)) m.isa.push_back(word);
    }
  }
}

void read_cgroup_memory(MachineReport &m) {
  const std::string memory = first_line("/sys/fs/cgroup/memory.max");
  if (!memory.empty() && memory != "max") m.cgroup_memory = to_bytes(memory);
}

void read_caches(MachineReport &m) {
  for (int i = 0; i < 8; ++i) {
    const fs::path dir = fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}", i);
    const std::string level = first_line(dir / "level"), type = first_line(dir / "type");
    if (level.empty() || type == "Instruction") continue;
    m.caches.emplace_back("L" + level + (type == "Data" ? "d" : ""),
                          to_bytes(first_line(dir / "size")));
  }
}

}  // namespace

MachineReport read_machine() {
  MachineReport m;
  utsname names;
  if (uname(&names) == 0)
    m.os = fmt::format("{} {} {}", names.sysname, names.release, names.machine);
  const switchyard::Machine &known = machine();
  m.cpu = known.cpu;
  m.cores = known.logical_cpus;
  m.allowed = known.allowed_cpus;
  m.cgroup_cpus = known.cgroup_cpus;
  m.memory = static_cast<std::uint64_t>(sysconf(_SC_PHYS_PAGES)) *
             static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  read_flags(m);
  read_cgroup_memory(m);
  read_caches(m);
  return m;
}

Json machine_json(const MachineReport &m) {
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

std::string machine_text(const MachineReport &m) {
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
    entry["quarantined"] = Json::object();
    for (const auto &[kernel, why] : p.quarantined) entry["quarantined"][kernel] = why;
    list.push_back(std::move(entry));
  }
  return list;
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
