// SPDX-License-Identifier: Apache-2.0
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>

#include <switchyard/quantize.hpp>

#include "calls.hpp"

namespace switchyard::python {
namespace {

using std::string;

/// switchyard.Quantized: the arrays as the caller's kind has them, the rest as the core has it.
struct PyQuantized {
  string format, dtype = "f32", granularity = "tensor";
  std::vector<std::int64_t> shape;
  int group_size = 0;
  nb::object blocks = nb::none(), codes = nb::none(), scales = nb::none(), biases = nb::none();
  std::optional<RunInfo> info;

  nb::handle data() const { return blocks.is_none() ? codes : blocks; }
};

/// Of an array in any library.
std::uint64_t bytes_of(nb::handle array) {
  return array.is_none() ? 0 : nb::cast<std::uint64_t>(array.attr("nbytes"));
}

std::vector<std::int64_t> shape_of(nb::handle shape) {
  std::vector<std::int64_t> out;
  for (const nb::handle n : nb::iter(shape)) out.push_back(integer("shape", n, 0, INT64_MAX));
  return out;
}

/// Where a call writes: one array, a sequence of up to three, or an earlier result.
struct Outputs {
  nb::object codes = nb::none(), scales = nb::none(), biases = nb::none();

  explicit Outputs(nb::handle out) {
    if (out.is_none()) return;
    if (nb::isinstance<PyQuantized>(out)) {
      const auto &q = nb::cast<const PyQuantized &>(out);
      codes = nb::borrow(q.data());
      scales = q.scales;
      biases = q.biases;
      return;
    }
    if (!PyTuple_Check(out.ptr()) && !PyList_Check(out.ptr())) {
      codes = nb::borrow(out);
      return;
    }
    const nb::sequence items = nb::borrow<nb::sequence>(out);
    const std::size_t n = nb::len(items);
    if (n < 1 || n > 3) raise(ErrorCode::invalid_argument, "out must hold one to three arrays");
    codes = items[0];
    if (n > 1) scales = items[1];
    if (n > 2) biases = items[2];
  }
};

bool starts_with(const string &text, std::string_view lower) {
  if (text.size() < lower.size()) return false;
  for (std::size_t i = 0; i < lower.size(); ++i) {
    const char c = text[i];
    if ((c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c) != lower[i]) return false;
  }
  return true;
}

QuantizeOptions quantize_options(nb::handle format, nb::handle group_size, nb::handle granularity,
                                 nb::handle scale, nb::handle nonfinite, nb::handle rounding,
                                 nb::handle seed) {
  QuantizeOptions options;
  options.format = text("format", format);
  if (!group_size.is_none())
    options.group_size = static_cast<int>(integer("group_size", group_size, 1, INT32_MAX));
  options.granularity = text("granularity", granularity);
  if (!scale.is_none()) options.scale = text("scale", scale);
  options.nonfinite = text("nonfinite", nonfinite);
  options.rounding = text("rounding", rounding);
  options.seed = seed_of(seed);
  return options;
}

nb::object quantize(Engine &engine, nb::handle x, nb::handle format, nb::handle group_size,
                    nb::handle granularity, nb::handle scale, nb::handle nonfinite,
                    nb::handle rounding, nb::handle seed, nb::handle out) {
  const Outputs outputs(out);
  const bool torch_out = is_torch(x, "x");
  QuantizeOptions options =
      quantize_options(format, group_size, granularity, scale, nonfinite, rounding, seed);
  if (outputs.scales.is_none() &&
      (starts_with(options.format, "mlx_affine") || starts_with(options.format, "tern2")))
    check_bf16_output(is_bf16(x), torch_out);
  const Array in(x, "x", Access::read), codes(outputs.codes, "out", Access::write),
      scales(outputs.scales, "out's scales", Access::write),
      biases(outputs.biases, "out's biases", Access::write);
  options.codes_out = codes.view();
  options.scales_out = scales.view();
  options.biases_out = biases.view();
  auto answer = run_call(in.view(), [&] { return engine.quantize(in.view(), options); });
  Quantized q = value(std::move(answer));
  PyQuantized result;
  const bool is_blocks = q.is_blocks();
  (is_blocks ? result.blocks : result.codes) =
      codes.present() ? outputs.codes : wrapped(std::move(q.codes), torch_out);
  result.scales = scales.present() ? outputs.scales : wrapped(std::move(q.scales), torch_out);
  result.biases = biases.present() ? outputs.biases : wrapped(std::move(q.biases), torch_out);
  result.format = std::move(q.format);
  result.dtype = to_string(q.dtype);
  result.granularity = std::move(q.granularity);
  result.shape = std::move(q.shape);
  result.group_size = q.group_size;
  result.info = remember(std::move(q.info));
  return nb::cast(std::move(result));
}

/// An array of the caller as a tensor; the caller's Array keeps the memory alive.
Tensor borrowed(const Array &array) {
  return array.present() ? Tensor::adopt(array.view(), nullptr) : Tensor();
}

/// The core's view of a Quantized, whose arrays it borrows.
class Borrowed {
 public:
  explicit Borrowed(nb::handle object)
      : given_(checked(object)),
        torch_(is_torch(given_.data(), "q")),
        codes_(given_.data(), "codes", Access::read),
        scales_(given_.scales, "scales", Access::read),
        biases_(given_.biases, "biases", Access::read) {
    q.format = given_.format;
    q.group_size = given_.group_size;
    q.granularity = given_.granularity;
    q.shape = given_.shape;
    q.dtype = value(parse_dtype(given_.dtype));
    q.codes = borrowed(codes_);
    q.scales = borrowed(scales_);
    q.biases = borrowed(biases_);
  }

  /// The answer of a call that wrote to `out`, if there is one.
  template <class Call>
  nb::object run(nb::handle out, Call call) {
    if (out.is_none()) check_bf16_output(given_.dtype == "bf16", torch_);
    const Array target(out, "out", Access::write);
    RunInfo info;
    Tensor y = value(run_call(codes_.view(), [&] { return call(target.view(), &info); }));
    remember(std::move(info));
    return target.present() ? nb::borrow(out) : wrapped(std::move(y), torch_);
  }

  Quantized q;

 private:
  static const PyQuantized &checked(nb::handle object) {
    if (!nb::isinstance<PyQuantized>(object))
      raise(ErrorCode::invalid_argument,
            string("q must be a Quantized, not ") + nb::type_name(object.type()).c_str() +
                "; build one from stored arrays with switchyard.Quantized(format, shape, ...)");
    return nb::cast<const PyQuantized &>(object);
  }

  const PyQuantized &given_;
  bool torch_;
  Array codes_, scales_, biases_;
};

nb::object dequantize(Engine &engine, nb::handle object, nb::handle out) {
  Borrowed given(object);
  return given.run(out, [&](const TensorView &target, RunInfo *info) {
    return engine.dequantize(given.q, target, info);
  });
}

/// `rows`: [first, count], or with `listed` the rows themselves.
nb::object dequantize_part(Engine &engine, nb::handle object, const std::vector<std::int64_t> &rows,
                           bool listed, std::int64_t first_column, std::int64_t columns,
                           nb::handle out) {
  Borrowed given(object);
  QuantizedPart part;
  part.first_column = first_column;
  part.columns = columns;
  if (listed) {
    part.row_list = rows;
  } else {
    part.first_row = rows.at(0);
    part.rows = rows.at(1);
  }
  return given.run(out, [&](const TensorView &target, RunInfo *info) {
    return switchyard::dequantize_part(engine, given.q, part, target, info);
  });
}

nb::object round_trip(Engine &engine, nb::handle x, nb::handle format, nb::handle group_size,
                      nb::handle granularity, nb::handle scale, nb::handle nonfinite,
                      nb::handle rounding, nb::handle seed, nb::handle out) {
  const bool torch_out = is_torch(x, "x");
  const QuantizeOptions options =
      quantize_options(format, group_size, granularity, scale, nonfinite, rounding, seed);
  if (out.is_none()) check_bf16_output(is_bf16(x), torch_out);
  const Array in(x, "x", Access::read), target(out, "out", Access::write);
  RunInfo info;
  Tensor y = value(run_call(in.view(), [&] {
    return switchyard::round_trip(engine, in.view(), options, target.view(), &info);
  }));
  remember(std::move(info));
  return target.present() ? nb::borrow(out) : wrapped(std::move(y), torch_out);
}

string describe(const PyQuantized &q) {
  string names, shape = nb::repr(to_tuple(q.shape)).c_str();
  const auto add = [&](const nb::object &array, const char *name) {
    if (array.is_none()) return;
    names += (names.empty() ? "'" : ", '") + string(name) + "'";
  };
  add(q.blocks, "blocks");
  add(q.codes, "codes");
  add(q.scales, "scales");
  add(q.biases, "biases");
  return "Quantized('" + q.format + "', shape=" + shape + ", arrays=[" + names + "])";
}

constexpr const char *kQuantizedDoc =
    R"(A quantised array: what `Engine.quantize` returns and `Engine.dequantize` takes.

Build one from stored arrays to dequantise them; `format` decides which arrays are needed.

Attributes:
    format: "q4_0", "mlx_affine4", "ternary", ...
    shape: of the original array, a tuple.
    dtype: of the original array: "f32", "f16" or "bf16".
    group_size: values that share a scale; 0 where the format fixes it or has none.
    granularity: "tensor", "row", "group" or "channel" ("ternary", "tern2" and "int8").
    blocks: uint8 [..., K / block * bytes] for block formats, else None.
    codes: the codes of the other formats, else None. Ternary and int8: int8 of `shape`; MLX
        formats and tern2: uint32 [..., K * bits / 32].
    scales, biases: or None where the format has none.
    info: who answered (RunInfo), or None for an object made by hand.
    nbytes: bytes of all arrays together.)";

}  // namespace

void bind_quantize(nb::module_ &m, EngineClass &engine) {
  using namespace nb::literals;
  const auto a = nb::arg().none();
  engine.def("quantize", &quantize, a, a, a, a, a, a, a, a, a)
      .def("dequantize", &dequantize, a, a)
      .def("dequantize_part", &dequantize_part, a, a, a, a, a, a)
      .def("round_trip", &round_trip, a, a, a, a, a, a, a, a, a);

  nb::class_<PyQuantized> quantized(m, "Quantized", kQuantizedDoc);
  quantized
      .def(
          "__init__",
          [](PyQuantized *self, nb::handle format, nb::handle shape, nb::object blocks,
             nb::object codes, nb::object scales, nb::object biases, nb::handle dtype,
             nb::handle group_size, nb::handle granularity) {
            PyQuantized q;
            q.format = text("format", format);
            q.shape = shape_of(shape);
            q.dtype = text("dtype", dtype);
            q.group_size = static_cast<int>(integer("group_size", group_size, 0, INT32_MAX));
            q.granularity = text("granularity", granularity);
            q.blocks = std::move(blocks);
            q.codes = std::move(codes);
            q.scales = std::move(scales);
            q.biases = std::move(biases);
            new (self) PyQuantized(std::move(q));
          },
          "format"_a, "shape"_a, nb::kw_only(), "blocks"_a.none() = nb::none(),
          "codes"_a.none() = nb::none(), "scales"_a.none() = nb::none(),
          "biases"_a.none() = nb::none(), "dtype"_a = "f32", "group_size"_a = 0,
          "granularity"_a = "tensor")
      .def_rw("format", &PyQuantized::format)
      .def_rw("dtype", &PyQuantized::dtype)
      .def_rw("granularity", &PyQuantized::granularity)
      .def_rw("group_size", &PyQuantized::group_size)
      .def_rw("blocks", &PyQuantized::blocks, nb::arg().none())
      .def_rw("codes", &PyQuantized::codes, nb::arg().none())
      .def_rw("scales", &PyQuantized::scales, nb::arg().none())
      .def_rw("biases", &PyQuantized::biases, nb::arg().none())
      .def_prop_rw(
          "shape", [](const PyQuantized &q) { return to_tuple(q.shape); },
          [](PyQuantized &q, nb::handle shape) { q.shape = shape_of(shape); })
      .def_prop_ro("info",
                   [](const PyQuantized &q) { return q.info ? run_info(*q.info) : nb::none(); })
      .def_prop_ro("nbytes",
                   [](const PyQuantized &q) {
                     return bytes_of(q.blocks) + bytes_of(q.codes) + bytes_of(q.scales) +
                            bytes_of(q.biases);
                   })
      .def("__repr__", &describe)
      .def("__getstate__",
           [](const PyQuantized &q) {
             return nb::make_tuple(q.format, to_tuple(q.shape), q.blocks, q.codes, q.scales,
                                   q.biases, q.dtype, q.group_size, q.granularity);
           })
      .def("__setstate__", [](PyQuantized &self, const nb::tuple &state) {
        PyQuantized q;
        q.format = text("format", state[0]);
        q.shape = shape_of(state[1]);
        q.blocks = state[2];
        q.codes = state[3];
        q.scales = state[4];
        q.biases = state[5];
        q.dtype = text("dtype", state[6]);
        q.group_size = static_cast<int>(integer("group_size", state[7], 0, INT32_MAX));
        q.granularity = text("granularity", state[8]);
        new (&self) PyQuantized(std::move(q));
      });
  quantized.attr("__module__") = "switchyard";
}

}  // namespace switchyard::python
