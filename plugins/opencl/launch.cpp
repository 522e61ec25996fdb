// SPDX-License-Identifier: Apache-2.0
#include "launch.hpp"

#include <algorithm>
#include <failure.hpp>

namespace switchyard::opencl {
namespace {

constexpr double kPieceNs = 4e6;  // of work between two polls of the host

std::uint64_t time_of(cl_event event) {
  cl_ulong start = 0, end = 0;
  if (api().clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_START, sizeof(start), &start,
                                    nullptr) != CL_SUCCESS ||
      api().clGetEventProfilingInfo(event, CL_PROFILING_COMMAND_END, sizeof(end), &end, nullptr) !=
          CL_SUCCESS)
    return 0;
  return end > start ? end - start : 0;
}

}  // namespace

Job::Job(Device &device, const sy_call &call, sy_error *error)
    : device_(device), call_(call), error_(error), lock_(device.mutex()) {
  if (device_.start(failure_)) nothing_ = scratch(64);
}

Job::~Job() {
  for (const cl_event event : kernels_run_) api().clReleaseEvent(event);
  for (const cl_mem mem : wrapped_) api().clReleaseMemObject(mem);
  for (const Device::Memory &memory : scratch_) device_.give(memory);
}

cl_mem Job::scratch(std::uint64_t bytes) {
  if (!ok()) return nullptr;
  const Device::Memory memory = device_.take(bytes, failure_);
  if (memory.mem != nullptr) scratch_.push_back(memory);
  return memory.mem;
}

void Job::fill(cl_mem mem, std::uint32_t word, std::uint64_t bytes) {
  if (!ok() || bytes == 0) return;
  failure_.check(api().clEnqueueFillBuffer(device_.queue(), mem, &word, sizeof(word), 0,
                                           static_cast<std::size_t>(bytes), 0, nullptr, nullptr),
                 "filling a buffer");
}

void Job::read(cl_mem mem, std::uint64_t offset, void *to, std::uint64_t bytes) {
  if (!ok() || bytes == 0) return;
  failure_.check(
      api().clEnqueueReadBuffer(device_.queue(), mem, CL_TRUE, static_cast<std::size_t>(offset),
                                static_cast<std::size_t>(bytes), to, 0, nullptr, nullptr),
      "reading a result");
}

void Job::write(cl_mem mem, std::uint64_t offset, const void *from, std::uint64_t bytes) {
  if (!ok() || bytes == 0) return;
  failure_.check(
      api().clEnqueueWriteBuffer(device_.queue(), mem, CL_TRUE, static_cast<std::size_t>(offset),
                                 static_cast<std::size_t>(bytes), from, 0, nullptr, nullptr),
      "writing parameters");
}

void Job::kernel(const char *source, const std::string &options, const char *name) {
  if (!ok()) return;
  kernel_ = device_.kernel(source, options, name, failure_);
  next_ = 2;
}

Job &Job::raw(const void *value, std::size_t bytes) {
  if (ok())
    failure_.check(api().clSetKernelArg(kernel_, next_++, bytes, value),
                   "setting a kernel's argument");
  return *this;
}

Job &Job::arg(cl_mem mem) {
  const cl_mem given = mem != nullptr ? mem : nothing_;
  return raw(&given, sizeof(given));
}

Job &Job::arg(const Array &array) { return arg(array.mem).arg(array.offset); }

bool Job::poll(double done) {
  if (call_.progress == nullptr || call_.progress(call_.progress_arg, done) == 0) return true;
  failure_.set(SY_E_CANCELLED, "cancelled by the progress hook");
  return false;
}

void Job::wait(cl_event event, bool is_kernel) {
  const cl_int waited = api().clWaitForEvents(1, &event);
  cl_int status = CL_COMPLETE;
  (void)api().clGetEventInfo(event, CL_EVENT_COMMAND_EXECUTION_STATUS, sizeof(status), &status,
                             nullptr);
  if (waited != CL_SUCCESS || status < 0)
    failure_.set(SY_E_DEVICE_LOST,
                 "a command broke off on the device: " + code_text(status < 0 ? status : waited));
  else if (is_kernel)
    device_.totals().kernel_ns += time_of(event);
}

void Job::run(std::uint64_t begin, std::uint64_t end, double tile_ns, Share share) {
  if (!ok() || begin >= end) return;
  const Description &about = device_.about();
  // A processor's device takes no more threads than the call allows: one group each.
  const bool limited = about.is_cpu() && call_.threads < about.units;
  const double units = limited ? std::max(call_.threads, 1u) : about.units;
  constexpr std::uint64_t kMostGroups = 1u << 20;
  const std::uint64_t most_groups = limited ? std::max(call_.threads, 1u) : kMostGroups;
  std::uint64_t piece = end - begin;
  if (call_.progress != nullptr && tile_ns > 0)
    piece = static_cast<std::uint64_t>(std::clamp(kPieceNs * units / tile_ns, units, 1e15));
  const double all = static_cast<double>(end - begin);
  cl_event before = nullptr;
  for (std::uint64_t first = begin; ok() && first < end;) {
    const cl_ulong from = first, to = first + std::min(piece, end - first);
    failure_.check(api().clSetKernelArg(kernel_, 0, sizeof(from), &from), "setting a first tile");
    failure_.check(api().clSetKernelArg(kernel_, 1, sizeof(to), &to), "setting a last tile");
    const std::size_t local = group();
    const std::size_t global = static_cast<std::size_t>(std::min(to - from, most_groups)) * local;
    cl_event event = nullptr;
    if (ok())
      failure_.check(api().clEnqueueNDRangeKernel(device_.queue(), kernel_, 1, nullptr, &global,
                                                  &local, 0, nullptr, &event),
                     "starting a kernel");
    if (event == nullptr) return;
    kernels_run_.push_back(event);
    ++device_.totals().kernels;
    // One piece runs while the next is on its way.
    if (before != nullptr) {
      wait(before, false);
      poll(share.done + share.part * static_cast<double>(from - begin) / all);
    }
    before = event;
    first = to;
  }
}

void Job::settle() {
  for (const cl_event event : kernels_run_) {
    wait(event, true);
    api().clReleaseEvent(event);
  }
  kernels_run_.clear();
}

std::int32_t Job::finish() {
  if (device_.queue() != nullptr && (!kernels_run_.empty() || !outputs_.empty())) {
    if (ok())
      for (const Output &output : outputs_) {
        if (!output.in_place) {
          download(output.array, *output.tensor);
        } else if (output.mapped_bytes != 0) {
          cl_int code = CL_SUCCESS;
          void *mapped = api().clEnqueueMapBuffer(
              device_.queue(), output.array.mem, CL_TRUE, CL_MAP_READ, 0,
              static_cast<std::size_t>(output.mapped_bytes), 0, nullptr, nullptr, &code);
          if (failure_.check(code, "mapping a result"))
            (void)api().clEnqueueUnmapMemObject(device_.queue(), output.array.mem, mapped, 0,
                                                nullptr, nullptr);
        }
      }
    const cl_int code = api().clFinish(device_.queue());
    if (code != CL_SUCCESS)
      failure_.set(SY_E_DEVICE_LOST, "waiting for the device failed: " + code_text(code));
    settle();
  }
  if (ok()) return SY_OK;
  if (failure_.code == SY_E_DEVICE_LOST) device_.lose();
  const std::string text = device_.about().name + ": " + failure_.text;
  const bool of_data = failure_.code == SY_E_NONFINITE || failure_.code == SY_E_OVERFLOW;
  return cpu::failure(error_, failure_.code, of_data ? failure_.text.c_str() : text.c_str(),
                      failure_.index);
}

}  // namespace switchyard::opencl
