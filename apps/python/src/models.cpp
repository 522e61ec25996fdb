// SPDX-License-Identifier: Apache-2.0
#include "models.hpp"

#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <switchyard/models.hpp>

#include "errors.hpp"

namespace switchyard::python {
namespace {

namespace nb = nanobind;
using std::string;

/// format, group_size, granularity, scale; format "" keeps the tensor.
using Choice = std::tuple<string, int, string, string>;

TensorChoice choice_of(const Choice &c) {
  const auto &[format, group_size, granularity, scale] = c;
  return {format, group_size, granularity, scale};
}

/// Calls back with the GIL, a few times a second; Ctrl-C and False stop the work, exceptions too.
class Reporter {
 public:
  explicit Reporter(nb::object callback) : callback_(std::move(callback)) {}

  bool operator()(const string &what, double done) {
    const auto now = std::chrono::steady_clock::now();
    if (now - last_ < std::chrono::milliseconds(20) && done < 1) return true;
    last_ = now;
    nb::gil_scoped_acquire acquire;
    if (PyErr_CheckSignals() != 0) return false;
    if (callback_.is_none()) return true;
    try {
      const nb::object answer = callback_(what, done);
      return !answer.is(Py_False);
    } catch (nb::python_error &error) {
      error.restore();
      return false;
    }
  }

 private:
  nb::object callback_;
  std::chrono::steady_clock::time_point last_{};
};

/// What the callback or a signal raised outranks the error that it led to.
string answer(const Result<ModelReport> &report) {
  if (PyErr_Occurred() != nullptr) throw nb::python_error();
  return value(report).json();
}

string quantize(Engine &engine, const string &in, const string &out, const string &recipe,
                const string &rules, const std::optional<Choice> &choice,
                const std::map<string, Choice> &decisions, std::optional<double> target_bits,
                const string &dtype, const string &nonfinite, const std::vector<bool> &flags,
                std::uint64_t shard_bytes, nb::object progress) {
  ModelOptions options;
  options.recipe = recipe;
  options.rules = rules;
  if (choice) options.choice = choice_of(*choice);
  if (!decisions.empty())
    options.predicate = [&](const ModelTensor &t) -> std::optional<TensorChoice> {
      const auto at = decisions.find(t.name);
      if (at == decisions.end()) return std::nullopt;
      return choice_of(at->second);
    };
  options.target_bits = target_bits;
  options.dtype = dtype;
  options.nonfinite = nonfinite;
  options.dry_run = flags.at(0);
  options.resume = flags.at(1);
  options.quality = flags.at(2);
  options.bench = flags.at(3);
  options.shard_bytes = shard_bytes;
  Reporter reporter(std::move(progress));
  options.progress = std::ref(reporter);
  const auto report = [&] {
    nb::gil_scoped_release release;
    return quantize_model(engine, in, out, options);
  }();
  return answer(report);
}

string dequantize(Engine &engine, const string &in, const string &out, const string &dtype,
                  bool resume, nb::object progress) {
  ModelOptions options;
  options.dtype = dtype;
  options.resume = resume;
  Reporter reporter(std::move(progress));
  options.progress = std::ref(reporter);
  const auto report = [&] {
    nb::gil_scoped_release release;
    return dequantize_model(engine, in, out, options);
  }();
  return answer(report);
}

}  // namespace

void bind_models(nb::module_ &m) {
  using namespace nb::literals;
  nb::list names;
  for (std::string_view name : recipe_names()) names.append(nb::str(name.data(), name.size()));
  m.attr("recipe_names") = nb::tuple(names);
  m.def("quantize_model", &quantize, "engine"_a, "in"_a, "out"_a, "recipe"_a, "rules"_a,
        "choice"_a.none(), "decisions"_a, "target_bits"_a.none(), "dtype"_a, "nonfinite"_a,
        "flags"_a, "shard_bytes"_a, "progress"_a.none());
  m.def("dequantize_model", &dequantize, "engine"_a, "in"_a, "out"_a, "dtype"_a, "resume"_a,
        "progress"_a.none());
}

}  // namespace switchyard::python
