// SPDX-License-Identifier: Apache-2.0
// The layers around attention.
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <switchyard/layers.hpp>

#include "calls.hpp"

namespace switchyard::python {
namespace {

using std::string;

/// The arrays that every call here has: its first input decides the kind of the result.
struct Call {
  Call(nb::handle x, const char *name, nb::handle out, bool any_dtype = false)
      : torch_out(is_torch(x, name)),
        given(nb::borrow(out)),
        input(x, name, Access::read),
        target(out, "out", Access::write) {
    if (out.is_none() && !any_dtype) check_bf16_output(is_bf16(x), torch_out);
  }
  LayerOutput output() { return {target.view(), &info}; }
  nb::object finish(Result<Tensor> made) {
    Tensor y = value(std::move(made));
    remember(std::move(info));
    return given.is_none() ? wrapped(std::move(y), torch_out) : given;
  }

  bool torch_out;
  nb::object given;
  Array input, target;
  RunInfo info;
};

MatmulOptions matmul_options(Call &call, const Array &add, const string &dtype) {
  MatmulOptions options;
  options.add = add.view();
  if (!dtype.empty()) options.dtype = value(parse_dtype(dtype));
  options.output = call.output();
  return options;
}

nb::object matmul(Engine &engine, nb::handle x, nb::handle w, bool transpose, nb::handle add,
                  const string &dtype, nb::handle out) {
  is_torch(w, "w");  // refuses those that require grad
  Call call(x, "x", out, !dtype.empty());
  const Array weights(w, "w", Access::read), bias(add, "bias", Access::read);
  MatmulOptions options = matmul_options(call, bias, dtype);
  options.transpose = transpose;
  return call.finish(run_call(call.input.view(), [&] {
    return switchyard::matmul(engine, call.input.view(), weights.view(), options);
  }));
}

nb::object matmul_quantised(Engine &engine, nb::handle x, nb::handle codes, nb::handle scales,
                            nb::handle biases, const string &format, int group_size,
                            const std::vector<std::int64_t> &shape, nb::handle add,
                            const string &dtype, nb::handle out) {
  Call call(x, "x", out, !dtype.empty());
  const Array codes_in(codes, "codes", Access::read), scales_in(scales, "scales", Access::read),
      biases_in(biases, "biases", Access::read), bias(add, "bias", Access::read);
  const auto borrowed = [](const Array &a) {
    return a.present() ? Tensor::adopt(a.view(), nullptr) : Tensor();
  };
  Quantized w;
  w.format = format;
  w.group_size = group_size;
  w.shape = shape;
  w.codes = borrowed(codes_in);
  w.scales = borrowed(scales_in);
  w.biases = borrowed(biases_in);
  const MatmulOptions options = matmul_options(call, bias, dtype);
  return call.finish(run_call(call.input.view(), [&] {
    return switchyard::matmul(engine, call.input.view(), w, options);
  }));
}

nb::object rms_norm(Engine &engine, nb::handle x, nb::handle weight, float eps, nb::handle out) {
  Call call(x, "x", out);
  const Array w(weight, "weight", Access::read);
  return call.finish(run_call(call.input.view(), [&] {
    return switchyard::rms_norm(engine, call.input.view(), w.view(), eps, call.output());
  }));
}

nb::object layer_norm(Engine &engine, nb::handle x, nb::handle weight, nb::handle bias, float eps,
                      nb::handle out) {
  Call call(x, "x", out);
  const Array w(weight, "weight", Access::read), b(bias, "bias", Access::read);
  return call.finish(run_call(call.input.view(), [&] {
    return switchyard::layer_norm(engine, call.input.view(), w.view(), b.view(), eps,
                                  call.output());
  }));
}

nb::object swiglu(Engine &engine, nb::handle gate, nb::handle up, nb::handle out) {
  is_torch(up, "up");
  Call call(gate, "gate", out);
  const Array u(up, "up", Access::read);
  return call.finish(run_call(call.input.view(), [&] {
    return switchyard::swiglu(engine, call.input.view(), u.view(), call.output());
  }));
}

nb::object gelu(Engine &engine, nb::handle x, bool tanh, nb::handle out) {
  Call call(x, "x", out);
  return call.finish(run_call(call.input.view(), [&] {
    return switchyard::gelu(engine, call.input.view(), tanh, call.output());
  }));
}

nb::object rope(Engine &engine, nb::handle x, std::int64_t offset, nb::handle positions,
                bool interleaved, std::int64_t rotary, float base, float scale,
                nb::handle frequencies, nb::handle out) {
  Call call(x, "x", out);
  const Array p(positions, "positions", Access::read), f(frequencies, "frequencies", Access::read);
  RopeOptions options;
  options.offset = offset;
  options.positions = p.view();
  options.interleaved = interleaved;
  options.rotary = rotary;
  options.base = base;
  options.scale = scale;
  options.frequencies = f.view();
  options.output = call.output();
  return call.finish(run_call(
      call.input.view(), [&] { return switchyard::rope(engine, call.input.view(), options); }));
}

}  // namespace

void bind_layers(EngineClass &engine) {
  const auto a = nb::arg().none();  // an array or None
  const auto v = nb::arg();         // a value
  engine.def("matmul", &matmul, a, a, v, a, v, a)
      .def("matmul_quantised", &matmul_quantised, a, a, a, a, v, v, v, a, v, a)
      .def("rms_norm", &rms_norm, a, a, v, a)
      .def("layer_norm", &layer_norm, a, a, a, v, a)
      .def("swiglu", &swiglu, a, a, a)
      .def("gelu", &gelu, a, v, a)
      .def("rope", &rope, a, v, a, v, v, v, v, a, a);
}

}  // namespace switchyard::python
