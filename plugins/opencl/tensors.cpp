// SPDX-License-Identifier: Apache-2.0
/// Tensors on their way to the device and back. Where host memory is device memory they are used in
/// place; elsewhere they travel packed, in logical order, through pinned memory.
#include <algorithm>
#include <cstring>

#include "launch.hpp"

namespace switchyard::opencl {
namespace {

std::int64_t element_bytes(const sy_tensor &t) { return t.dtype.bits / 8; }

char *first_byte(const sy_tensor &t) { return static_cast<char *>(t.handle) + t.byte_offset; }

bool is_empty(const sy_tensor &t) {
  for (std::int32_t k = 0; k < t.rank; ++k)
    if (t.shape[k] == 0) return true;
  return false;
}

/// The same elements packed; dimensions that repeat (stride 0) keep one copy.
Array packed(const sy_tensor &t) {
  Array a;
  a.rank = t.rank;
  std::int64_t stride = 1;
  for (std::int32_t k = t.rank - 1; k >= 0; --k) {
    const bool repeats = t.strides[k] == 0 || t.shape[k] == 1;
    a.shape[k] = t.shape[k];
    a.strides[k] = repeats ? 0 : stride;
    if (!repeats) stride *= t.shape[k];
  }
  return a;
}

/// Walks the elements of a packed array in order: runs that lie together in the tensor.
/// f(tensor's bytes, packed offset, bytes).
template <class F>
void each_run(const sy_tensor &t, const Array &a, F f) {
  const std::int64_t size = element_bytes(t);
  std::int64_t extent[SY_MAX_RANK], count[SY_MAX_RANK] = {};
  for (std::int32_t k = 0; k < t.rank; ++k) extent[k] = a.strides[k] == 0 ? 1 : t.shape[k];
  // The innermost dimensions that lie together form a run.
  std::int64_t run = 1;
  std::int32_t outer = t.rank;
  while (outer > 0 && (extent[outer - 1] == 1 || t.strides[outer - 1] == run))
    run *= extent[--outer];
  std::int64_t at = 0;
  for (bool more = true; more;) {
    std::int64_t offset = 0;
    for (std::int32_t k = 0; k < outer; ++k) offset += count[k] * t.strides[k];
    f(first_byte(t) + offset * size, at, run * size);
    at += run * size;
    more = false;
    for (std::int32_t k = outer - 1; k >= 0 && !more; --k) {
      more = ++count[k] < extent[k];
      if (!more) count[k] = 0;
    }
  }
}

std::uint64_t packed_bytes(const sy_tensor &t, const Array &a) {
  std::uint64_t n = static_cast<std::uint64_t>(element_bytes(t));
  for (std::int32_t k = 0; k < t.rank; ++k)
    if (a.strides[k] != 0 || t.shape[k] == 0) n *= static_cast<std::uint64_t>(t.shape[k]);
  return n;
}

}  // namespace

std::uint64_t span_of(const sy_tensor &t, std::uint64_t *first) {
  std::int64_t low = 0, high = 0;
  for (std::int32_t k = 0; k < t.rank; ++k) {
    if (t.shape[k] == 0) return 0;
    const std::int64_t reach = (t.shape[k] - 1) * t.strides[k];
    (reach < 0 ? low : high) += reach;
  }
  *first = t.byte_offset + static_cast<std::uint64_t>(low * element_bytes(t));
  return static_cast<std::uint64_t>((high - low + 1) * element_bytes(t));
}

Array Job::on_device(const sy_tensor &t) {
  Array a;
  a.mem = static_cast<cl_mem>(t.handle);
  a.offset = static_cast<std::int64_t>(t.byte_offset);
  a.rank = t.rank;
  std::copy_n(t.shape, t.rank, a.shape);
  std::copy_n(t.strides, t.rank, a.strides);
  return a;
}

/// A tensor of host memory, used where it is.
Array Job::whole(const sy_tensor &t, bool written) {
  std::uint64_t first = 0;
  const std::uint64_t bytes = span_of(t, &first);
  Array a = on_device(t);
  cl_int code = CL_SUCCESS;
  const cl_mem_flags access = written ? CL_MEM_READ_WRITE : CL_MEM_READ_ONLY;
  a.mem = api().clCreateBuffer(device_.context(), access | CL_MEM_USE_HOST_PTR,
                               static_cast<std::size_t>(bytes),
                               static_cast<char *>(t.handle) + first, &code);
  if (!failure_.check(code, "giving the device a tensor")) return {};
  wrapped_.push_back(a.mem);
  a.offset = static_cast<std::int64_t>(t.byte_offset - first);
  return a;
}

Array Job::copied(const sy_tensor &t, bool written) {
  Array a = packed(t);
  a.mem = scratch(packed_bytes(t, a));
  if (ok() && !written) upload(t, a);
  return a;
}

Array Job::input(const sy_tensor *t) {
  if (!ok() || t == nullptr) return {};
  if (is_empty(*t)) {
    Array a = packed(*t);
    a.mem = nothing_;
    return a;
  }
  if (t->device_kind == SY_DEVICE_OPENCL) return on_device(*t);
  return device_.zero_copy() ? whole(*t, false) : copied(*t, false);
}

Array Job::output(const sy_tensor *t) {
  if (!ok() || t == nullptr) return {};
  if (is_empty(*t)) {
    Array a = packed(*t);
    a.mem = nothing_;
    return a;
  }
  if (t->device_kind == SY_DEVICE_OPENCL) {
    outputs_.push_back({t, on_device(*t), true, 0});
  } else if (device_.zero_copy()) {
    std::uint64_t first = 0;
    outputs_.push_back({t, whole(*t, true), true, span_of(*t, &first)});
  } else {
    outputs_.push_back({t, copied(*t, true), false, 0});
  }
  return outputs_.back().array;
}

void Job::note_transfer(cl_event event, std::uint64_t bytes, bool up) {
  wait(event, false);
  cl_ulong start = 0, end = 0;
  (void)api().clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START, sizeof(start), &start,
                                      nullptr);
  (void)api().clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof(end), &end, nullptr);
  if (end > start) device_.totals().transfer_ns += end - start;
  (up ? device_.totals().uploaded : device_.totals().downloaded) += bytes;
  api().clReleaseEvent(event);
}

/// Packs into one half of the pinned memory while the other half travels.
void Job::upload(const sy_tensor &from, const Array &to) {
  char *staging = device_.staging(failure_);
  if (staging == nullptr) return;
  constexpr std::uint64_t kHalf = Device::kStagingBytes / 2;
  cl_event flying[2] = {};
  std::uint64_t sizes[2] = {}, sent = 0, filled = 0;
  int half = 0;
  const auto send = [&] {
    if (filled == 0 || !ok()) return;
    failure_.check(
        api().clEnqueueWriteBuffer(device_.queue(), to.mem, CL_FALSE,
                                   static_cast<std::size_t>(sent), static_cast<std::size_t>(filled),
                                   staging + static_cast<std::uint64_t>(half) * kHalf, 0, nullptr,
                                   &flying[half]),
        "sending a tensor to the device");
    (void)api().clFlush(device_.queue());
    sizes[half] = filled;
    sent += filled;
    filled = 0;
    half ^= 1;
    if (flying[half] != nullptr) note_transfer(flying[half], sizes[half], true);
    flying[half] = nullptr;
  };
  each_run(from, to, [&](const char *bytes, std::int64_t, std::int64_t n) {
    auto left = static_cast<std::uint64_t>(n);
    while (left > 0 && ok()) {
      const std::uint64_t fit = std::min(left, kHalf - filled);
      std::memcpy(staging + static_cast<std::uint64_t>(half) * kHalf + filled, bytes,
                  static_cast<std::size_t>(fit));
      bytes += fit;
      left -= fit;
      filled += fit;
      if (filled == kHalf) send();
    }
  });
  send();
  for (int h = 0; h < 2; ++h)
    if (flying[h] != nullptr) note_transfer(flying[h], sizes[h], true);
}

void Job::download(const Array &from, const sy_tensor &to) {
  char *staging = device_.staging(failure_);
  if (staging == nullptr) return;
  const std::uint64_t total = packed_bytes(to, from);
  std::uint64_t have = 0, begin = 0;  // packed bytes begin..have lie in the pinned memory
  each_run(to, from, [&](char *bytes, std::int64_t at, std::int64_t n) {
    auto position = static_cast<std::uint64_t>(at), left = static_cast<std::uint64_t>(n);
    while (left > 0 && ok()) {
      if (position == have) {
        begin = have;
        have = std::min(total, begin + Device::kStagingBytes);
        cl_event event = nullptr;
        if (!failure_.check(api().clEnqueueReadBuffer(device_.queue(), from.mem, CL_TRUE,
                                                      static_cast<std::size_t>(begin),
                                                      static_cast<std::size_t>(have - begin),
                                                      staging, 0, nullptr, &event),
                            "bringing a result back"))
          return;
        note_transfer(event, have - begin, false);
      }
      const std::uint64_t fit = std::min(left, have - position);
      std::memcpy(bytes, staging + (position - begin), static_cast<std::size_t>(fit));
      bytes += fit;
      position += fit;
      left -= fit;
    }
  });
}

}  // namespace switchyard::opencl
