// SPDX-License-Identifier: Apache-2.0
#include "calls.hpp"

#include <nanobind/stl/string.h>

#include <atomic>
#include <mutex>
#include <optional>

namespace switchyard::python {

namespace {

std::string repr_of(nb::handle value) { return nb::cast<std::string>(nb::repr(value)); }

[[noreturn]] void wrong(const char *name, const char *expected, nb::handle value) {
  raise(ErrorCode::invalid_argument,
        std::string(name) + " must be " + expected + ", not " + repr_of(value));
}

[[noreturn]] void out_of_range(const char *name, const std::string &low, const std::string &high,
                               nb::handle value) {
  raise(ErrorCode::invalid_argument,
        std::string(name) + " must be in " + low + ".." + high + ", not " + repr_of(value));
}

}  // namespace

std::int64_t integer(const char *name, nb::handle value, std::int64_t low, std::int64_t high) {
  const nb::object index = nb::steal(PyNumber_Index(value.ptr()));
  if (!index.is_valid()) {
    PyErr_Clear();
    wrong(name, "an integer", value);
  }
  int overflow = 0;
  const long long number = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0 || number < low || number > high)
    out_of_range(name, std::to_string(low), std::to_string(high), value);
  return number;
}

std::uint64_t seed_of(nb::handle value) {
  const nb::object index = nb::steal(PyNumber_Index(value.ptr()));
  if (!index.is_valid()) {
    PyErr_Clear();
    wrong("seed", "an integer", value);
  }
  const unsigned long long number = PyLong_AsUnsignedLongLong(index.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    out_of_range("seed", "0", std::to_string(UINT64_MAX), value);
  }
  return number;
}

double real(const char *name, nb::handle value) {
  const double number = PyFloat_AsDouble(value.ptr());
  if (PyErr_Occurred() == nullptr) return number;
  PyErr_Clear();
  wrong(name, "a number", value);
}

std::string text(const char *name, nb::handle value) {
  if (!PyUnicode_Check(value.ptr())) wrong(name, "a string", value);
  Py_ssize_t size = 0;
  const char *utf8 = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
  if (utf8 == nullptr) throw nb::python_error();
  return std::string(utf8, static_cast<std::size_t>(size));
}

struct Watch::State {
  nb::object callback;
  std::mutex mutex;  // of last and error: kernels ask from any of their threads
  std::chrono::steady_clock::time_point last = std::chrono::steady_clock::now();
  std::exception_ptr error;
  std::atomic<bool> stopped{false};

  bool go_on(double done) {
    {
      const std::lock_guard lock(mutex);
      const auto now = std::chrono::steady_clock::now();
      if (now - last < std::chrono::milliseconds(20)) return !stopped.load();
      last = now;
    }
    nb::gil_scoped_acquire acquire;
    try {
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
      if (!callback.is_none() && callback(done).is(Py_False)) stopped = true;
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
      stopped = true;
    }
    return !stopped.load();
  }
};

Watch::Watch(nb::handle callback) : state_(std::make_shared<State>()) {
  state_->callback = nb::borrow(callback);
  if (!callback.is_none() && PyCallable_Check(callback.ptr()) == 0)
    wrong("progress", "a function or None", callback);
}

Progress Watch::progress() const {
  return [state = state_.get()](double done) { return state->go_on(done); };
}

void Watch::finish() const {
  if (state_->error) std::rethrow_exception(state_->error);
  if (state_->stopped) raise(ErrorCode::cancelled, "stopped by the progress function");
}

namespace {

thread_local std::optional<RunInfo> latest;

}  // namespace

const RunInfo &remember(RunInfo info) { return latest.emplace(std::move(info)); }

nb::object run_info(const RunInfo &info) {
  return nb::module_::import_("switchyard._results")
      .attr("RunInfo")(info.backend, info.kernel, info.requested_backend, info.verified,
                       info.fallback_reason, info.time_ms, info.reused);
}

nb::object last_run() { return latest ? run_info(*latest) : nb::none(); }

}  // namespace switchyard::python
