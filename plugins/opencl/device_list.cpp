// SPDX-License-Identifier: Apache-2.0
/// The list of devices: from a file as long as drivers and machine are the same, else from the
/// drivers, each device tried out with a small program.
#include <dirent.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "files.hpp"
#include "launch.hpp"

extern char **environ;

namespace switchyard::opencl {
namespace {

constexpr const char *kRevision = "devices 1 " SWITCHYARD_VERSION;

/// A file's identity as far as `stat` tells.
std::string stamp(const std::string &path) {
  struct stat s {};
  if (::stat(path.c_str(), &s) != 0) return path + " missing\n";
  return path + " " + std::to_string(s.st_size) + " " + std::to_string(s.st_mtim.tv_sec) + " " +
         std::to_string(s.st_mtim.tv_nsec) + "\n";
}

/// What decides which devices there are, as far as it can be seen without loading a driver: the
/// registered drivers and their libraries, variables that drivers heed, the processors.
std::string fingerprint() {
  std::string text = std::string(kRevision) + "\n";
  const char *vendors = secure_getenv("OCL_ICD_VENDORS");
  const std::string folder =
      vendors != nullptr && vendors[0] == '/' ? vendors : "/etc/OpenCL/vendors";
  std::vector<std::string> files;
  if (DIR *open = opendir(folder.c_str())) {
    while (const dirent *entry = readdir(open))
      if (const std::string_view name = entry->d_name; name.ends_with(".icd"))
        files.push_back(folder + "/" + entry->d_name);
    closedir(open);
  }
  std::sort(files.begin(), files.end());
  for (const std::string &file : files) {
    std::string library = read_file(file).value_or("");
    library.erase(std::find(library.begin(), library.end(), '\n'), library.end());
    text += stamp(file) + library + "\n";
    for (const char *place : {"", "/usr/lib/x86_64-linux-gnu/", "/usr/lib64/", "/usr/local/lib/"})
      text += stamp(place + library);
  }
  std::vector<std::string> variables;
  for (char **e = environ; e != nullptr && *e != nullptr; ++e)
    for (const char *prefix : {"OCL_ICD_", "OPENCL_", "POCL_", "CUDA_", "ROCR_", "SYCL_"})
      if (std::strncmp(*e, prefix, std::strlen(prefix)) == 0) variables.emplace_back(*e);
  std::sort(variables.begin(), variables.end());
  for (const std::string &variable : variables) text += variable + "\n";
  cpu_set_t cpus;
  CPU_ZERO(&cpus);
  if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0)
    text += std::to_string(CPU_COUNT(&cpus)) + " processors\n";
  const std::string cpuinfo = read_file("/proc/cpuinfo").value_or("");
  const std::size_t model = cpuinfo.find("model name");
  if (model != std::string::npos) text += cpuinfo.substr(model, cpuinfo.find('\n', model) - model);
  return text;
}

/// Numbers whose results are easy to get wrong: denormals, ties, quotients of every pair.
std::vector<float> numbers(std::uint32_t seed) {
  std::vector<float> out;
  for (std::uint32_t i = 0; out.size() < 512; ++i) {
    seed = seed * 1664525u + 1013904223u;
    const auto kind = i % 4;
    std::uint32_t bits = seed;
    if (kind == 0) bits &= 0x807FFFFFu;                        // denormal
    if (kind == 1) bits = (bits & 0x80FFFFFFu) | 0x3F000000u;  // near one
    if (kind == 2) bits = (bits & 0x83FFFFFFu) + 0x00800000u;  // barely normal
    if (const float f = std::bit_cast<float>(bits); std::isfinite(f)) out.push_back(f);
  }
  return out;
}

bool same(float got, float want) {
  return std::bit_cast<std::uint32_t>(got) == std::bit_cast<std::uint32_t>(want) ||
         (got != got && want != want);
}

/// Runs a program with known answers and sets the flags that depend on them.
void try_out(Description &d, const sy_host *host) {
  Device device(d, host);
  const std::vector<float> a = numbers(1), b = numbers(2), c = numbers(3);
  const std::uint64_t n = a.size(), bytes = n * sizeof(float);
  std::vector<float> got(4 * n);
  sy_call call{};
  call.threads = d.units;
  sy_error error{};
  error.struct_size = sizeof(error);
  Job job(device, call, &error);
  Array arrays[3];
  const std::vector<float> *values[] = {&a, &b, &c};
  for (int i = 0; i < 3; ++i) {
    arrays[i].mem = job.scratch(bytes);
    job.write(arrays[i].mem, 0, values[i]->data(), bytes);
  }
  const cl_mem out = job.scratch(4 * bytes);
  job.kernel("probe.cl", "", "try_out");
  job.arg(arrays[0]).arg(arrays[1]).arg(arrays[2]).arg(out);
  job.run(0, n, 0);
  job.read(out, 0, got.data(), 4 * bytes);
  if (job.finish() != SY_OK) {
    d.trouble = error.message;
    return;
  }
  d.keeps_denormals = d.exact_division = d.exact_fma = true;
  for (std::size_t i = 0; i < n; ++i) {
    const float product = a[i] * b[i];
    d.keeps_denormals = d.keeps_denormals && same(got[4 * i], product + c[i]);
    d.exact_division = d.exact_division && same(got[4 * i + 1], a[i] / b[i]) &&
                       same(got[4 * i + 2], sqrtf(fabsf(a[i])));
    d.exact_fma = d.exact_fma && same(got[4 * i + 3], fmaf(a[i], b[i], c[i]));
  }
}

std::vector<Description> find(const sy_host *host) {
  const std::string folder = cache_folder(host);
  const std::string key = fingerprint();
  const std::string file = folder.empty() ? "" : folder + "/devices-" + hex(hash_of(key)) + ".txt";
  std::vector<Description> list;
  if (!file.empty())
    if (const auto text = read_sealed(file)) {
      if (text->starts_with(key + "\n\n") && from_text(text->substr(key.size() + 2), list))
        return list;
      list.clear();
    }
  list = ask_drivers();
  for (Description &d : list)
    if (d.trouble.empty()) try_out(d, host);
  if (!file.empty() && !list.empty()) write_sealed(file, key + "\n\n" + to_text(list));
  return list;
}

}  // namespace

const std::vector<Description> &devices(const sy_host *host) {
  static const auto *list = [&] {
    auto *usable = new std::vector<Description>;
    for (Description &d : find(host)) {
      if (d.trouble.empty())
        usable->push_back(std::move(d));
      else
        host->log(host, SY_LOG_WARNING,
                  ("opencl: " + d.name + " is not used: " + d.trouble).c_str());
    }
    return usable;
  }();
  return *list;
}

}  // namespace switchyard::opencl
