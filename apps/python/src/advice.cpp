// SPDX-License-Identifier: Apache-2.0
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>

#include <switchyard/attention.hpp>

#include "attention.hpp"
#include "errors.hpp"

namespace switchyard::python {
namespace {

namespace nb = nanobind;
using std::string;

/// Sizes; dtype; causal; flags; dropout. As the Python class AttentionConfig orders them.
using Fields = std::tuple<std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t,
                                     std::int64_t, std::int64_t, std::int64_t, std::int64_t>,
                          string, string,
                          std::tuple<bool, bool, bool, bool, bool, bool, bool, bool, bool>, double>;

AttentionConfig config_of(const Fields &fields) {
  AttentionConfig c;
  const auto &[sizes, dtype, causal, flags, dropout] = fields;
  std::tie(c.batch, c.q_heads, c.kv_heads, c.q_len, c.kv_len, c.head_dim, c.value_dim, c.window) =
      sizes;
  c.dtype = value(parse_dtype(dtype));
  c.causal = causal;
  std::tie(c.mask, c.alibi, c.sinks, c.softcap, c.return_lse, c.blhd, c.blhd_out, c.requires_grad,
           c.expanded) = flags;
  c.dropout = dropout;
  return c;
}

nb::tuple should_optimize(AttentionAdvisor &advisor, const Fields &fields) {
  const AttentionConfig config = config_of(fields);
  Advice advice;
  {
    nb::gil_scoped_release release;
    advice = advisor.should_optimize(config);
  }
  return nb::make_tuple(advice.optimize, advice.reason, advice.kind, advice.kernel,
                        advice.expected_ms, advice.host_ms);
}

nb::dict status(const AttentionAdvisor &advisor) {
  const AdviceStatus s = advisor.status();
  nb::dict d;
  d["asked"] = s.asked;
  d["optimized"] = s.optimized;
  d["rate"] = s.rate();
  d["declined"] = s.declined;
  d["patterns"] = s.patterns;
  return d;
}

nb::list models() {
  nb::list list;
  for (const ModelAttention &m : model_attentions())
    list.append(nb::make_tuple(m.name, m.layers, m.q_heads, m.kv_heads, m.head_dim, m.value_dim,
                               m.window, m.softcap));
  return list;
}

}  // namespace

void bind_advice(nb::module_ &m) {
  m.def("attention_models", &models);
  m.def("attention_pattern", [](const Fields &fields) { return config_of(fields).pattern(); });
  nb::class_<AttentionAdvisor>(m, "AttentionAdvisor")
      .def(
          "__init__",
          [](AttentionAdvisor *self, Engine &engine, std::int64_t min_seq_len,
             std::int64_t max_seq_len, std::int64_t gqa_ratio_min, std::int64_t min_heads,
             double min_work_us) {
            new (self) AttentionAdvisor(
                engine, {min_seq_len, max_seq_len, gqa_ratio_min, min_heads, min_work_us});
          },
          nb::keep_alive<1, 2>())
      .def("should_optimize", &should_optimize)
      .def("observe",
           [](AttentionAdvisor &a, const Fields &f, double ms) { a.observe(config_of(f), ms); })
      .def("observed",
           [](const AttentionAdvisor &a, const Fields &f) { return a.observed(config_of(f)); })
      .def("status", &status)
      .def("reset_status", &AttentionAdvisor::reset_status);
}

}  // namespace switchyard::python
