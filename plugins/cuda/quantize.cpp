// SPDX-License-Identifier: Apache-2.0
/// quantize and dequantize: which kernels a format takes, in which order.
#include <switchyard/ops/quantize.h>

#include <algorithm>
#include <iterator>
#include <string>

#include "instance.hpp"
#include "kernels/quant_arguments.hpp"

namespace switchyard::cuda {
namespace {

struct Format {
  std::uint32_t id;
  const char *name;
  int unit, bytes;  ///< of a block, or of 32 codes
};
constexpr Format kFormats[] = {
    {SY_QUANT_Q4_0, "q4_0", 32, 18},
    {SY_QUANT_Q4_1, "q4_1", 32, 20},
    {SY_QUANT_Q5_0, "q5_0", 32, 22},
    {SY_QUANT_Q5_1, "q5_1", 32, 24},
    {SY_QUANT_Q8_0, "q8_0", 32, 34},
    {SY_QUANT_Q4_K, "q4_k", 256, 144},
    {SY_QUANT_Q6_K, "q6_k", 256, 210},
    {SY_QUANT_TQ1_0, "tq1_0", 256, 54},
    {SY_QUANT_TQ2_0, "tq2_0", 256, 66},
    {SY_QUANT_Q2_0, "q2_0", 64, 18},
    {SY_QUANT_MXFP4_GGML, "mxfp4_ggml", 32, 17},
    {SY_QUANT_MXFP4, "mxfp4", 32, 16},
    {SY_QUANT_MLX_AFFINE2, "mlx_affine2", 32, 8},
    {SY_QUANT_MLX_AFFINE3, "mlx_affine3", 32, 12},
    {SY_QUANT_MLX_AFFINE4, "mlx_affine4", 32, 16},
    {SY_QUANT_MLX_AFFINE5, "mlx_affine5", 32, 20},
    {SY_QUANT_MLX_AFFINE6, "mlx_affine6", 32, 24},
    {SY_QUANT_MLX_AFFINE8, "mlx_affine8", 32, 32},
    {SY_QUANT_TERNARY, "ternary", 1, 1},
    {SY_QUANT_TERN2, "tern2", 32, 8},
    {SY_QUANT_I2_S, "i2_s", 128, 32},
    {SY_QUANT_INT8, "int8", 1, 1},
};

const Format *find_format(std::uint32_t id) {
  for (const Format &f : kFormats)
    if (f.id == id) return &f;
  return nullptr;
}
/// Codes need the scale of values elsewhere in the tensor.
bool in_parts(std::uint32_t format) { return format >= SY_QUANT_TERNARY; }
bool is_affine(std::uint32_t format) {
  return (format >= SY_QUANT_MLX_AFFINE2 && format <= SY_QUANT_MLX_AFFINE8) ||
         format == SY_QUANT_TERN2;
}

ValueType type_of(sy_dtype t) {
  return t.bits == 32               ? ValueType::f32
         : t.code == SY_TYPE_BFLOAT ? ValueType::bf16
                                    : ValueType::f16;
}

unsigned shared_of(const Format &f) {
  return quant_shared(static_cast<unsigned>(kTileValues / f.unit * f.bytes));
}

Values values_of(const Array &array, const sy_tensor &tensor) {
  Values v{};
  v.data = array.as<char>();
  std::copy_n(array.shape, SY_MAX_RANK, v.shape);
  std::copy_n(array.strides, SY_MAX_RANK, v.strides);
  v.rank = array.rank;
  v.total = element_count(tensor);
  v.flat = array.dense() && array.data % 16 == 0;
  v.type = type_of(tensor.dtype);
  return v;
}

/// How many values share a scale.
std::int64_t part_size(const sy_quantize_params &p, const sy_tensor &x, std::int64_t total) {
  switch (p.granularity) {
    case SY_GRANULARITY_ROW:
      return x.shape[x.rank - 1];
    case SY_GRANULARITY_GROUP:
      return p.group_size;
    case SY_GRANULARITY_CHANNEL:
      return x.shape[0] > 0 ? total / x.shape[0] : 0;
    default:
      return total;
  }
}
std::int64_t part_count(const sy_quantize_params &p, const sy_tensor &x, std::int64_t total) {
  switch (p.granularity) {
    case SY_GRANULARITY_ROW:
      return x.shape[x.rank - 1] > 0 ? total / x.shape[x.rank - 1] : [&] {
        std::int64_t rows = 1;
        for (int k = 0; k + 1 < x.rank; ++k) rows *= x.shape[k];
        return rows;
      }();
    case SY_GRANULARITY_GROUP:
      return total / p.group_size;
    case SY_GRANULARITY_CHANNEL:
      return x.shape[0];
    default:
      return 1;
  }
}

std::int64_t tiles(std::int64_t total) { return (total + kTileValues - 1) / kTileValues; }
std::int64_t groups_of(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

QuantArguments arguments_of(const sy_quantize_params &p, const sy_tensor &x, const Array &values) {
  QuantArguments a{};
  a.values = values_of(values, x);
  a.group = is_affine(p.format) ? static_cast<std::int32_t>(p.group_size) : 0;
  a.absmean = p.scale_rule == SY_SCALE_ABSMEAN;
  a.rceil =
      p.format == SY_QUANT_MXFP4 ? p.scale_rule != SY_SCALE_FLOOR : p.scale_rule == SY_SCALE_RCEIL;
  a.saturate = p.nonfinite == SY_NONFINITE_SATURATE;
  if (p.struct_size >= sizeof p) {  // callers of ABI 1.0 have no such fields
    a.stochastic = p.rounding == SY_ROUNDING_STOCHASTIC;
    a.seed = p.seed;
  }
  a.part_size = part_size(p, x, a.values.total);
  a.parts = part_count(p, x, a.values.total);
  a.scale_type = a.values.type;
  return a;
}

void set_codes(QuantArguments &a, const Array &codes) {
  a.codes = codes.as<std::uint8_t>();
  a.codes_aligned = codes.data % 16 == 0;
}

/// Scales of parts, then codes.
void launch_parts(Work &work, std::uint32_t format, QuantArguments &a) {
  const auto launch = [&](const char *kernel, std::int64_t blocks, unsigned shared = 0) {
    work.launch(Family::exact, kernel, {blocks}, kQuantThreads, shared, a);
  };
  const unsigned tile = quant_shared(kTileValues);
  const std::int64_t total = a.values.total;
  if (format == SY_QUANT_INT8) {
    a.part_max = work.take<std::uint32_t>(a.parts, true);
    launch("quantize_part_maxima", tiles(total), tile);
    launch("quantize_part_scales", groups_of(a.parts, kQuantThreads));
  } else {
    a.part_blocks = groups_of(a.part_size, 4096);
    a.sums = work.take<double>(a.parts * a.part_blocks);
    launch("quantize_part_sums", groups_of(a.parts * a.part_blocks, kQuantThreads / 32));
    launch("quantize_part_means", a.parts);
  }
  switch (format) {
    case SY_QUANT_INT8:
      return launch("quantize_int8", tiles(total), tile);
    case SY_QUANT_TERNARY:
      return launch("quantize_ternary", tiles(total), tile);
    case SY_QUANT_TERN2:
      launch("quantize_tern2_scales", groups_of(a.group > 0 ? total / a.group : 0, kQuantThreads));
      return launch("quantize_tern2", tiles(total), tile);
    default:
      launch("quantize_i2_s", tiles(total), tile);
      return work.launch(Family::exact, "quantize_i2_s_tail", {1}, 32, 0, a);
  }
}

const char *overflow_text(std::uint32_t format) {
  if (format == SY_QUANT_TERN2)
    return "twice the scale does not fit the scales' dtype (index names the first value that "
           "shares "
           "it); scale the input down";
  if (is_affine(format))
    return "the range of a group does not fit f32 (index names the group's first value); scale the "
           "input down";
  return "the scale of a block does not fit f16 (index names the block's first value); scale the "
         "input down or take a format with f32 scales";
}

std::int32_t run_quantize(const KernelDef &self, Device &device, const sy_call &call,
                          sy_error *error) {
  const auto &p = *static_cast<const sy_quantize_params *>(call.params);
  const Format &format = *find_format(self.tag);
  const sy_tensor &x = *call.inputs[SY_QUANTIZE_IN_X];
  Work work(device, call);
  const Array values = work.input(&x), codes = work.output(call.outputs[SY_QUANTIZE_OUT_CODES]);
  const Array scales = work.output(call.outputs[SY_QUANTIZE_OUT_SCALES]),
              biases = work.output(call.outputs[SY_QUANTIZE_OUT_BIASES]);
  QuantArguments a = arguments_of(p, x, values);
  set_codes(a, codes);
  a.scales = scales.as<char>();
  a.biases = biases.as<char>();
  const std::uint64_t none = ~std::uint64_t{0};
  sy_tensor first{};  // travels like a tensor
  first.handle = const_cast<std::uint64_t *>(&none);
  first.dtype = {SY_TYPE_UINT, 64, 0};
  a.error = work.input(&first).as<std::uint64_t>();
  work.computing();
  if (in_parts(format.id)) {
    const bool stored = format.id == SY_QUANT_INT8 || format.id == SY_QUANT_TERNARY;
    a.part_scale = stored ? reinterpret_cast<float *>(a.scales) : work.take<float>(a.parts);
    launch_parts(work, format.id, a);
  } else {
    work.launch(Family::exact, (std::string("quantize_") + format.name).c_str(),
                {tiles(a.values.total)}, kQuantThreads, shared_of(format), a);
  }
  std::uint64_t key = none;
  work.fetch(&key, reinterpret_cast<CUdeviceptr>(a.error), sizeof key);
  if (key != none && key % 2 == 0)
    work.failure().set(SY_E_NONFINITE,
                       "a value is NaN or infinite (index names the first); clean the input or ask "
                       "for nonfinite=saturate",
                       static_cast<std::int64_t>(key / 2));
  if (key != none && key % 2 != 0)
    work.failure().set(SY_E_OVERFLOW, overflow_text(format.id), static_cast<std::int64_t>(key / 2));
  return work.finish(error);
}

std::int32_t run_dequantize(const KernelDef &self, Device &device, const sy_call &call,
                            sy_error *error) {
  const auto &p = *static_cast<const sy_quantize_params *>(call.params);
  const Format &format = *find_format(self.tag);
  const sy_tensor &y = *call.outputs[SY_DEQUANTIZE_OUT_Y];
  Work work(device, call);
  const Array codes = work.input(call.inputs[SY_DEQUANTIZE_IN_CODES]);
  const sy_tensor *scales = call.inputs[SY_DEQUANTIZE_IN_SCALES];
  const Array scale_array = work.input(scales),
              biases = work.input(call.inputs[SY_DEQUANTIZE_IN_BIASES]);
  const Array values = work.output(&y);
  QuantArguments a = arguments_of(p, y, values);
  set_codes(a, codes);
  a.scales = scale_array.as<char>();
  a.biases = biases.as<char>();
  if (scales != nullptr) a.scale_type = type_of(scales->dtype);
  work.computing();
  const char *kernel = format.id == SY_QUANT_TERNARY ? "int8"
                       : format.id == SY_QUANT_TERN2 ? "mlx_affine2"
                                                     : format.name;
  const auto bytes = static_cast<unsigned>(kTileValues / format.unit * format.bytes);
  work.launch(Family::exact, (std::string("dequantize_") + kernel).c_str(), {tiles(a.values.total)},
              kQuantThreads, (bytes + 15) / 16 * 16, a);
  return work.finish(error);
}

std::int32_t supports(const KernelDef &self, const Description &, const sy_call &call,
                      sy_error *reason) {
  if (static_cast<const sy_quantize_params *>(call.params)->format != self.tag)
    return cpu::failure(reason, SY_E_UNSUPPORTED, "this kernel is for another format");
  return SY_OK;
}

std::uint64_t estimate(const KernelDef &self, const Description &about, const sy_call &call) {
  const bool encode = std::string_view(self.op) == SY_OP_QUANTIZE;
  const sy_tensor &values =
      encode ? *call.inputs[SY_QUANTIZE_IN_X] : *call.outputs[SY_DEQUANTIZE_OUT_Y];
  const double n = static_cast<double>(element_count(values));
  const bool searched = self.tag == SY_QUANT_Q4_K || self.tag == SY_QUANT_Q6_K;
  const double value_ns = encode && searched ? 8.0 / about.processors : 0;
  const double passes = encode && in_parts(self.tag) ? 2 : 1;
  return estimate_of(call, encode ? 3 * passes : 1, n * (passes * (values.dtype.bits / 8) + 1),
                     n * value_ns);
}

#define SY_QUANT_DEFS(OP, RUN, NAME, ID) \
  { OP, NAME, "exact", kExactTraits, ID, supports, estimate, RUN, nullptr, nullptr }
#define SY_QUANT_LIST(X, OP, RUN)                                                               \
  X(OP, RUN, "q4_0", SY_QUANT_Q4_0), X(OP, RUN, "q4_1", SY_QUANT_Q4_1),                         \
      X(OP, RUN, "q5_0", SY_QUANT_Q5_0), X(OP, RUN, "q5_1", SY_QUANT_Q5_1),                     \
      X(OP, RUN, "q8_0", SY_QUANT_Q8_0), X(OP, RUN, "q4_k", SY_QUANT_Q4_K),                     \
      X(OP, RUN, "q6_k", SY_QUANT_Q6_K), X(OP, RUN, "tq1_0", SY_QUANT_TQ1_0),                   \
      X(OP, RUN, "tq2_0", SY_QUANT_TQ2_0), X(OP, RUN, "q2_0", SY_QUANT_Q2_0),                   \
      X(OP, RUN, "mxfp4_ggml", SY_QUANT_MXFP4_GGML), X(OP, RUN, "mxfp4", SY_QUANT_MXFP4),       \
      X(OP, RUN, "mlx_affine2", SY_QUANT_MLX_AFFINE2),                                          \
      X(OP, RUN, "mlx_affine3", SY_QUANT_MLX_AFFINE3),                                          \
      X(OP, RUN, "mlx_affine4", SY_QUANT_MLX_AFFINE4),                                          \
      X(OP, RUN, "mlx_affine5", SY_QUANT_MLX_AFFINE5),                                          \
      X(OP, RUN, "mlx_affine6", SY_QUANT_MLX_AFFINE6),                                          \
      X(OP, RUN, "mlx_affine8", SY_QUANT_MLX_AFFINE8), X(OP, RUN, "ternary", SY_QUANT_TERNARY), \
      X(OP, RUN, "tern2", SY_QUANT_TERN2), X(OP, RUN, "i2_s", SY_QUANT_I2_S),                   \
      X(OP, RUN, "int8", SY_QUANT_INT8)

#define SY_ENCODER(OP, RUN, NAME, ID) SY_QUANT_DEFS(OP, RUN, "quantize.any_" NAME ".tile", ID)
#define SY_DECODER(OP, RUN, NAME, ID) SY_QUANT_DEFS(OP, RUN, "dequantize." NAME "_any.tile", ID)
constexpr KernelDef kEncoders[] = {SY_QUANT_LIST(SY_ENCODER, SY_OP_QUANTIZE, run_quantize)};
constexpr KernelDef kDecoders[] = {SY_QUANT_LIST(SY_DECODER, SY_OP_DEQUANTIZE, run_dequantize)};

}  // namespace

KernelList quantize_kernels() noexcept { return {kEncoders, std::size(kEncoders)}; }
KernelList dequantize_kernels() noexcept { return {kDecoders, std::size(kDecoders)}; }

}  // namespace switchyard::cuda
