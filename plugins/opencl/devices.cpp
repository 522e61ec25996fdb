// SPDX-License-Identifier: Apache-2.0
#include "devices.hpp"

#include <signal.h>
#include <stdio.h>

#include <map>
#include <sstream>

namespace switchyard::opencl {
namespace {

/// Drivers install handlers of their own when they start; the host's stay.
class SignalHandlersKept {
 public:
  SignalHandlersKept() {
    for (std::size_t i = 0; i < kCount; ++i) sigaction(kSignals[i], nullptr, &saved_[i]);
  }
  ~SignalHandlersKept() {
    for (std::size_t i = 0; i < kCount; ++i) sigaction(kSignals[i], &saved_[i], nullptr);
  }
  SignalHandlersKept(const SignalHandlersKept &) = delete;
  SignalHandlersKept &operator=(const SignalHandlersKept &) = delete;

 private:
  static constexpr int kSignals[] = {SIGFPE, SIGSEGV, SIGBUS,  SIGILL,  SIGABRT,
                                     SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGCHLD};
  static constexpr std::size_t kCount = sizeof(kSignals) / sizeof(kSignals[0]);
  struct sigaction saved_[kCount] {};
};

std::vector<cl_platform_id> platforms() {
  const SignalHandlersKept kept;
  cl_uint n = 0;
  if (api().clGetPlatformIDs(0, nullptr, &n) != CL_SUCCESS || n == 0) return {};
  std::vector<cl_platform_id> out(n);
  if (api().clGetPlatformIDs(n, out.data(), nullptr) != CL_SUCCESS) return {};
  return out;
}

std::vector<cl_device_id> devices_of(cl_platform_id platform) {
  const SignalHandlersKept kept;
  cl_uint n = 0;
  if (api().clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 0, nullptr, &n) != CL_SUCCESS || n == 0)
    return {};
  std::vector<cl_device_id> out(n);
  if (api().clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, n, out.data(), nullptr) != CL_SUCCESS)
    return {};
  return out;
}

/// One line: descriptions are kept in files of lines.
std::string one_line(std::string text) {
  while (!text.empty() && (text.back() == '\0' || text.back() == ' ')) text.pop_back();
  for (char &c : text)
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  return text;
}

std::string text_of(cl_device_id device, cl_device_info what) {
  std::size_t size = 0;
  if (api().clGetDeviceInfo(device, what, 0, nullptr, &size) != CL_SUCCESS) return "";
  std::string text(size, '\0');
  if (api().clGetDeviceInfo(device, what, size, text.data(), nullptr) != CL_SUCCESS) return "";
  return one_line(std::move(text));
}

std::string platform_name(cl_platform_id platform) {
  char text[256] = "";
  (void)api().clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof(text), text, nullptr);
  return one_line(text);
}

template <class T>
T number_of(cl_device_id device, cl_device_info what) {
  T value{};
  (void)api().clGetDeviceInfo(device, what, sizeof(value), &value, nullptr);
  return value;
}

Description describe(cl_device_id device) {
  Description d;
  d.name = text_of(device, CL_DEVICE_NAME);
  d.version = text_of(device, CL_DEVICE_VERSION);
  d.driver = text_of(device, CL_DRIVER_VERSION);
  d.type = number_of<cl_device_type>(device, CL_DEVICE_TYPE);
  d.memory = number_of<cl_ulong>(device, CL_DEVICE_GLOBAL_MEM_SIZE);
  d.largest_buffer = number_of<cl_ulong>(device, CL_DEVICE_MAX_MEM_ALLOC_SIZE);
  d.local_memory = number_of<cl_ulong>(device, CL_DEVICE_LOCAL_MEM_SIZE);
  d.units = number_of<cl_uint>(device, CL_DEVICE_MAX_COMPUTE_UNITS);
  d.vector_width = number_of<cl_uint>(device, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT);
  d.largest_group =
      static_cast<std::uint32_t>(number_of<std::size_t>(device, CL_DEVICE_MAX_WORK_GROUP_SIZE));
  d.unified = number_of<cl_bool>(device, CL_DEVICE_HOST_UNIFIED_MEMORY) == CL_TRUE;
  d.rounds_option = (number_of<cl_device_fp_config>(device, CL_DEVICE_SINGLE_FP_CONFIG) &
                     CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT) != 0;
  const std::string extensions = " " + text_of(device, CL_DEVICE_EXTENSIONS) + " ";
  const auto has = [&](const char *name) { return extensions.find(name) != std::string::npos; };
  d.fp64 = has(" cl_khr_fp64 ");
  d.fp16 = has(" cl_khr_fp16 ");
  d.atomics64 = has(" cl_khr_int64_base_atomics ");
  if (number_of<cl_bool>(device, CL_DEVICE_AVAILABLE) != CL_TRUE)
    d.trouble = "its driver says that the device is not available";
  else if (number_of<cl_bool>(device, CL_DEVICE_COMPILER_AVAILABLE) != CL_TRUE)
    d.trouble = "its driver has no compiler";
  else if (number_of<cl_bool>(device, CL_DEVICE_ENDIAN_LITTLE) != CL_TRUE)
    d.trouble = "the device is big-endian";
  return d;
}

/// The members of a description by name, for both directions of to_text.
template <class D, class F>
void each_member(D &d, F f) {
  f("platform_index", d.platform_index);
  f("device_index", d.device_index);
  f("platform", d.platform);
  f("name", d.name);
  f("version", d.version);
  f("driver", d.driver);
  f("type", d.type);
  f("memory", d.memory);
  f("largest_buffer", d.largest_buffer);
  f("local_memory", d.local_memory);
  f("units", d.units);
  f("vector_width", d.vector_width);
  f("largest_group", d.largest_group);
  f("unified", d.unified);
  f("rounds_option", d.rounds_option);
  f("fp64", d.fp64);
  f("fp16", d.fp16);
  f("atomics64", d.atomics64);
  f("keeps_denormals", d.keeps_denormals);
  f("exact_division", d.exact_division);
  f("exact_fma", d.exact_fma);
  f("trouble", d.trouble);
}

struct Writer {
  std::string &out;
  void operator()(const char *key, const std::string &value) const {
    out += std::string(key) + "=" + value + "\n";
  }
  void operator()(const char *key, std::uint64_t value) const {
    (*this)(key, std::to_string(value));
  }
};

struct Reader {
  const std::map<std::string, std::string> &values;
  bool &complete;
  const std::string *find(const char *key) const {
    const auto it = values.find(key);
    if (it == values.end()) complete = false;
    return it == values.end() ? nullptr : &it->second;
  }
  void operator()(const char *key, std::string &value) const {
    if (const std::string *text = find(key)) value = *text;
  }
  template <class T>
  void operator()(const char *key, T &value) const {
    const std::string *text = find(key);
    unsigned long long n = 0;
    if (text == nullptr) return;
    if (sscanf(text->c_str(), "%llu", &n) != 1) complete = false;
    value = static_cast<T>(n);
  }
};

}  // namespace

std::vector<Description> ask_drivers() {
  std::vector<Description> out;
  const auto all = platforms();
  for (std::size_t p = 0; p < all.size(); ++p) {
    const auto of_platform = devices_of(all[p]);
    for (std::size_t i = 0; i < of_platform.size(); ++i) {
      Description d = describe(of_platform[i]);
      d.platform_index = static_cast<std::uint32_t>(p);
      d.device_index = static_cast<std::uint32_t>(i);
      d.platform = platform_name(all[p]);
      out.push_back(std::move(d));
    }
  }
  return out;
}

cl_device_id find_device(const Description &d, cl_platform_id &platform) {
  const auto all = platforms();
  if (d.platform_index >= all.size()) return nullptr;
  platform = all[d.platform_index];
  const auto of_platform = devices_of(platform);
  if (platform_name(platform) != d.platform || d.device_index >= of_platform.size()) return nullptr;
  const cl_device_id device = of_platform[d.device_index];
  const bool same = text_of(device, CL_DEVICE_NAME) == d.name &&
                    text_of(device, CL_DRIVER_VERSION) == d.driver &&
                    text_of(device, CL_DEVICE_VERSION) == d.version;
  return same ? device : nullptr;
}

std::string to_text(const std::vector<Description> &list) {
  std::string out;
  for (const Description &d : list) {
    each_member(d, Writer{out});
    out += "\n";
  }
  return out;
}

bool from_text(const std::string &text, std::vector<Description> &list) {
  std::istringstream lines(text);
  std::map<std::string, std::string> values;
  bool complete = true;
  for (std::string line; std::getline(lines, line);) {
    if (line.empty()) {
      Description d;
      each_member(d, Reader{values, complete});
      list.push_back(std::move(d));
      values.clear();
      continue;
    }
    const std::size_t equals = line.find('=');
    if (equals == std::string::npos) return false;
    values[line.substr(0, equals)] = line.substr(equals + 1);
  }
  return complete && values.empty();
}

}  // namespace switchyard::opencl
