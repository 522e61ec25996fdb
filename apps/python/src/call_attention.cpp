// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <switchyard/attention.hpp>

#include "calls.hpp"

namespace switchyard::python {
namespace {

sy_causal causal_of(nb::handle value) {
  if (value.is(Py_False)) return SY_CAUSAL_NONE;
  if (value.is(Py_True)) return SY_CAUSAL_BOTTOM_RIGHT;
  if (PyUnicode_Check(value.ptr())) {
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "none") == 0) return SY_CAUSAL_NONE;
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "top_left") == 0) return SY_CAUSAL_TOP_LEFT;
    if (PyUnicode_CompareWithASCIIString(value.ptr(), "bottom_right") == 0)
      return SY_CAUSAL_BOTTOM_RIGHT;
  }
  raise(ErrorCode::invalid_argument,
        std::string("causal must be False, True, 'top_left' or 'bottom_right', not ") +
            nb::repr(value).c_str());
}

float finite(const char *name, nb::handle value) {
  const double number = real(name, value);
  if (!std::isfinite(number))
    raise(ErrorCode::invalid_argument,
          std::string(name) + " must be finite, not " + nb::repr(value).c_str());
  return static_cast<float>(number);
}

nb::object attention(Engine &engine, nb::handle q, nb::handle k, nb::handle v, nb::handle causal,
                     nb::handle window, nb::handle softcap, nb::handle mask, nb::handle scale,
                     nb::handle sinks, bool return_lse, nb::handle out, nb::handle alibi,
                     nb::handle kv_lengths, nb::handle block_table, nb::handle keep) {
  const bool torch_out = is_torch(q, "q");
  is_torch(k, "k");  // refuses those that require grad
  is_torch(v, "v");
  AttentionCall options;
  options.causal = causal_of(causal);
  if (!window.is_none()) options.window = integer("window", window, 1, INT64_C(1) << 62);
  if (!softcap.is_none()) {
    options.softcap = finite("softcap", softcap);
    if (options.softcap <= 0)
      raise(ErrorCode::invalid_argument,
            std::string("softcap must be above 0, not ") + nb::repr(softcap).c_str());
  }
  if (!scale.is_none()) options.scale = finite("scale", scale);
  options.return_lse = return_lse;
  options.keep = integer("keep", keep, 0, INT64_C(1) << 62);
  nb::object result = nb::borrow(out);
  if (out.is_none()) {
    if (torch_out)  // in torch's own layout, so that what follows is as fast as after torch
      result = nb::module_::import_("switchyard._arrays").attr("attention_out")(q, v);
    else
      check_bf16_output(is_bf16(q), false);
  }
  const Array q_in(q, "q", Access::read), k_in(k, "k", Access::read), v_in(v, "v", Access::read),
      mask_in(mask, "mask", Access::read), sinks_in(sinks, "sinks", Access::read),
      target(result, "out", Access::write), alibi_in(alibi, "alibi", Access::read),
      lengths_in(kv_lengths, "kv_lengths", Access::read),
      table_in(block_table, "block_table", Access::read);
  options.mask = mask_in.view();
  options.sinks = sinks_in.view();
  options.out = target.view();
  options.alibi = alibi_in.view();
  options.kv_lengths = lengths_in.view();
  options.block_table = table_in.view();
  // The engine's own call knows the result cache.
  const bool more =
      alibi_in.present() || lengths_in.present() || table_in.present() || options.keep > 0;
  auto answer = run_call(k_in.view(), [&] {
    return more ? switchyard::attention(engine, q_in.view(), k_in.view(), v_in.view(), options)
                : engine.attention(q_in.view(), k_in.view(), v_in.view(), options);
  });
  AttentionResult r = value(std::move(answer));
  remember(std::move(r.info));
  if (result.is_none()) result = wrapped(std::move(r.out), torch_out);
  if (!return_lse) return result;
  return nb::make_tuple(result, wrapped(std::move(r.lse), torch_out));
}

}  // namespace

void bind_attention(EngineClass &engine) {
  const auto a = nb::arg().none();
  engine.def("attention", &attention, a, a, a, a, a, a, a, a, a, nb::arg(), a, a, a, a, a);
}

}  // namespace switchyard::python
