// SPDX-License-Identifier: Apache-2.0
/// Programs: built per device, binaries kept between processes.
#include <chrono>
#include <sstream>

#include "device.hpp"
#include "files.hpp"
#include "sources.hpp"

namespace switchyard::opencl {
namespace {

/// The text of one or more files, their names separated by spaces, after common.cl.
std::string source_text(const char *names) {
  std::string text;
  std::istringstream list(std::string("common.cl ") + names);
  for (std::string name; list >> name;)
    for (unsigned i = 0; i < kSourceCount; ++i)
      if (name == kSources[i].name) text += kSources[i].text;
  return text;
}

/// PoCL keeps what it compiled, and answers for a program's binary by compiling all of it again.
bool driver_keeps_programs(const Description &about) {
  return about.is_cpu() && about.platform == "Portable Computing Language";
}

std::string all_options(const Description &about, const std::string &own) {
  std::string options = "-cl-std=CL1.2 -w";  // compilers print warnings where nobody reads them
  if (about.rounds_option) options += " -cl-fp32-correctly-rounded-divide-sqrt";
  if (about.is_cpu()) options += " -DON_CPU=1";
  if (about.fp64) options += " -DHAVE_FP64=1";
  return own.empty() ? options : options + " " + own;
}

/// The end of the compiler's words: that is where the error is.
std::string build_log(cl_program program, cl_device_id device) {
  std::size_t size = 0;
  (void)api().clGetProgramBuildInfo(program, device, CL_PROGRAM_BUILD_LOG, 0, nullptr, &size);
  std::string log(size, '\0');
  (void)api().clGetProgramBuildInfo(program, device, CL_PROGRAM_BUILD_LOG, size, log.data(),
                                    nullptr);
  while (!log.empty() && (log.back() == '\0' || log.back() == '\n')) log.pop_back();
  return log;
}

cl_program from_binary(cl_context context, cl_device_id device, const std::string &binary,
                       const std::string &options) {
  const auto *bytes = reinterpret_cast<const unsigned char *>(binary.data());
  const std::size_t size = binary.size();
  cl_int loaded = CL_SUCCESS, code = CL_SUCCESS;
  const cl_program program =
      api().clCreateProgramWithBinary(context, 1, &device, &size, &bytes, &loaded, &code);
  if (code != CL_SUCCESS) return nullptr;
  if (loaded == CL_SUCCESS &&
      api().clBuildProgram(program, 1, &device, options.c_str(), nullptr, nullptr) == CL_SUCCESS)
    return program;
  api().clReleaseProgram(program);
  return nullptr;
}

std::string binary_of(cl_program program) {
  std::size_t size = 0;
  if (api().clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof(size), &size, nullptr) !=
          CL_SUCCESS ||
      size == 0)
    return "";
  std::string binary(size, '\0');
  unsigned char *bytes = reinterpret_cast<unsigned char *>(binary.data());
  if (api().clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof(bytes), &bytes, nullptr) !=
      CL_SUCCESS)
    return "";
  return binary;
}

cl_program from_source(cl_context context, cl_device_id device, const sy_host *host,
                       const char *name, const std::string &options, Failure &failure) {
  const std::string text = source_text(name);
  const char *start = text.c_str();
  cl_int code = CL_SUCCESS;
  const cl_program program = api().clCreateProgramWithSource(context, 1, &start, nullptr, &code);
  if (!failure.check(code, "creating a program")) return nullptr;
  code = api().clBuildProgram(program, 1, &device, options.c_str(), nullptr, nullptr);
  if (code == CL_SUCCESS) return program;
  const std::string log = build_log(program, device);
  api().clReleaseProgram(program);
  host->log(
      host, SY_LOG_ERROR,
      (std::string("opencl: building ") + name + " with " + options + " failed:\n" + log).c_str());
  // The caller's error holds 255 characters: the first error of the log is worth the most.
  const std::size_t at = log.find("error");
  failure.set(status_of(code) == SY_E_OUT_OF_MEMORY ? SY_E_OUT_OF_MEMORY : SY_E_INTERNAL,
              std::string("building ") + name + " failed (" + code_text(code) +
                  "): " + log.substr(at == std::string::npos ? 0 : at, 160));
  return nullptr;
}

}  // namespace

void save_program(cl_program program, std::string &file) noexcept {
  if (file.empty()) return;
  try {
    const std::string binary = binary_of(program);
    if (!binary.empty()) write_sealed(file, binary);
  } catch (...) {
    // No memory for the binary: the next process compiles again.
  }
  file.clear();
}

cl_program build_program(cl_context context, cl_device_id device, const Description &about,
                         const sy_host *host, const char *source, const std::string &own_options,
                         Totals &totals, std::string &unsaved, Failure &failure) {
  const auto start = std::chrono::steady_clock::now();
  const std::string options = all_options(about, own_options);
  std::uint64_t key = hash_of(source_text(source));
  for (const std::string &part : {options, about.platform, about.name, about.version, about.driver,
                                  std::to_string(about.vector_width)})
    key = hash_of(part, hash_of("|", key));
  const std::string folder = driver_keeps_programs(about) ? "" : cache_folder(host);
  const std::string file = folder.empty() ? "" : folder + "/" + hex(key) + ".bin";

  cl_program program = nullptr;
  if (!file.empty())
    if (const auto binary = read_sealed(file))
      program = from_binary(context, device, *binary, options);
  if (program != nullptr) {
    ++totals.from_cache;
  } else {
    program = from_source(context, device, host, source, options, failure);
    if (program != nullptr) {
      ++totals.built;
      unsaved = file;
      if (!about.is_cpu()) save_program(program, unsaved);
    }
  }
  totals.build_ns += static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - start)
          .count());
  return program;
}

}  // namespace switchyard::opencl
