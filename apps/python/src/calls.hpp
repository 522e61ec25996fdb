// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What the bindings of all operations share: arguments, running without the GIL, who answered.

#include <nanobind/nanobind.h>

#include <chrono>
#include <exception>
#include <memory>
#include <string>
#include <switchyard/progress.hpp>

#include "arrays.hpp"
#include "errors.hpp"

namespace switchyard::python {

/// Arguments from Python, None where the caller gave nothing; a wrong one raises InputError that
/// names it.
std::int64_t integer(const char *name, nb::handle value, std::int64_t low, std::int64_t high);
std::uint64_t seed_of(nb::handle value);
double real(const char *name, nb::handle value);
std::string text(const char *name, nb::handle value);

/// Runs `work` without the GIL. Errors are raised by the caller, who has it back.
template <class F>
auto unlocked(F &&work) {
  nb::gil_scoped_release release;
  return work();
}

/// A call's progress: asks Python whether Ctrl-C was pressed, and tells the caller's function,
/// which stops the call by returning False. At most every 20 ms, because both take the GIL.
class Watch {
 public:
  /// `callback`: a function of the share done, 0..1, or None.
  explicit Watch(nb::handle callback);
  /// For the options of a call; holds a reference to this object's state.
  Progress progress() const;
  /// After the call: raises what the signal's handler or the callback raised, and "cancelled" where
  /// the callback stopped the call.
  void finish() const;
  /// The same, and the value or its error.
  template <class T>
  T value(Result<T> result) const {
    finish();
    return python::value(std::move(result));
  }

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// Runs a typed call without the GIL. Where `input` is large, Ctrl-C ends it with
/// KeyboardInterrupt.
template <class F>
auto run_call(const TensorView &input, F &&work) {
  constexpr std::int64_t kShort = 1 << 16;  // elements: such a call ends before a finger lifts
  if (!input.present() || input.elements() < kShort) return unlocked(work);
  const Watch watch{nb::none()};
  auto answer = unlocked([&] {
    const ProgressScope scope(watch.progress());
    return work();
  });
  watch.finish();
  return answer;
}

/// Makes it the calling thread's latest run.
const RunInfo &remember(RunInfo info);
/// switchyard.RunInfo
nb::object run_info(const RunInfo &info);
/// The calling thread's latest run as switchyard.RunInfo, or None.
nb::object last_run();

using EngineClass = nb::class_<Engine>;
void bind_quantize(nb::module_ &m, EngineClass &engine);
void bind_kmeans(EngineClass &engine);
void bind_attention(EngineClass &engine);
void bind_layers(EngineClass &engine);

}  // namespace switchyard::python
