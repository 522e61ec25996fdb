// SPDX-License-Identifier: Apache-2.0
/// attention: which kernel, how many blocks, and what they are told.
#include <switchyard/ops/attention.h>

#include <algorithm>
#include <iterator>
#include <string>

#include "instance.hpp"
#include "kernels/attention_arguments.hpp"

namespace switchyard::cuda {
namespace {

constexpr std::int64_t kLargestHead = 256;
constexpr std::int64_t kFewRows = 32;          ///< up to so many, a warp is a block
constexpr std::int64_t kLeastSplitKeys = 256;  ///< of a share of the keys
constexpr std::int64_t kBlocksPerProcessor = 4;

std::int64_t groups_of(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

const sy_tensor *input(const sy_call &call, std::uint32_t slot) {
  return slot < call.n_inputs ? call.inputs[slot] : nullptr;
}
const sy_tensor *lse_of(const sy_call &call) {
  return call.n_outputs > SY_ATTENTION_OUT_LSE ? call.outputs[SY_ATTENTION_OUT_LSE] : nullptr;
}

/// What decides how a call is cut.
struct Plan {
  std::int64_t batch, query_heads, key_heads, queries, keys, dk, dv, rows;
  int depth;         ///< elements of a head, as the kernels have them
  bool scalar, few;  ///< f32; hardly any rows
  int tile_rows, tile_keys;
  unsigned threads, shared;
  std::int64_t row_tiles, splits;
};

Plan plan_of(const Description &about, const sy_call &call) {
  const sy_tensor &q = *call.inputs[SY_ATTENTION_IN_Q], &k = *call.inputs[SY_ATTENTION_IN_K],
                  &v = *call.inputs[SY_ATTENTION_IN_V];
  Plan p{};
  p.batch = q.shape[0];
  p.query_heads = q.shape[1];
  p.key_heads = k.shape[1];
  p.queries = q.shape[2];
  p.keys = k.shape[2];
  p.dk = q.shape[3];
  p.dv = v.shape[3];
  p.rows = p.key_heads > 0 ? p.query_heads / p.key_heads * p.queries : 0;
  const std::int64_t head = std::max(p.dk, p.dv);
  p.depth = head <= 64 ? 64 : head <= 128 ? 128 : 256;
  p.scalar = q.dtype.bits == 32;
  if (p.scalar) {
    p.tile_rows = kScalarRows;
    p.tile_keys = kScalarKeys;
    p.threads = kScalarThreads;
    p.shared = scalar_shared(p.depth);
  } else {
    const auto room = static_cast<unsigned>(about.shared_bytes);
    p.few = p.rows <= kFewRows || tensor_shared(p.depth, kManyWarps) > room;
    const int warps = p.few ? kFewWarps : kManyWarps;
    p.tile_rows = 16 * warps;
    p.tile_keys = tile_keys(p.depth);
    p.threads = static_cast<unsigned>(32 * warps);
    p.shared = tensor_shared(p.depth, warps);
  }
  p.row_tiles = groups_of(p.rows, p.tile_rows);
  // The fewest shares of the keys that fill the device.
  const std::int64_t blocks = p.row_tiles * p.key_heads * p.batch;
  const std::int64_t wanted = kBlocksPerProcessor * about.processors;
  const std::int64_t most = std::max<std::int64_t>(1, p.keys / kLeastSplitKeys);
  p.splits = blocks == 0 ? 1 : std::clamp<std::int64_t>(wanted / blocks, 1, most);
  return p;
}

void set_strides(std::int64_t (&to)[4], const Array &from) { std::copy_n(from.strides, 4, to); }

/// Are rows whole 16-byte pieces?
bool fast(const Array &array, const sy_tensor &t) {
  const int piece = 128 / t.dtype.bits;
  bool whole = array.data % 16 == 0 && array.strides[3] == 1 && t.shape[3] % piece == 0;
  for (int k = 0; k < 3; ++k) whole = whole && array.strides[k] % piece == 0;
  return whole;
}

MaskType mask_type(const sy_tensor *mask) {
  if (mask == nullptr) return MaskType::none;
  if (mask->dtype.code == SY_TYPE_BOOL) return MaskType::boolean;
  if (mask->dtype.code == SY_TYPE_BFLOAT) return MaskType::bf16;
  return mask->dtype.bits == 16 ? MaskType::f16 : MaskType::f32;
}

const char *type_name(sy_dtype t) {
  return t.bits == 32 ? "f32" : t.code == SY_TYPE_BFLOAT ? "bf16" : "f16";
}

AttentionArguments arguments_of(const sy_call &call, const Plan &p) {
  const auto &params = *static_cast<const sy_attention_params *>(call.params);
  AttentionArguments a{};
  a.queries = p.queries;
  a.keys = p.keys;
  const std::int64_t wide = std::int64_t{1}
                            << 40;  // hides nothing, and positions stay far from overflow
  a.window_left = std::min(params.window_left, wide);
  a.window_right = std::min(params.window_right, wide);
  a.batch = static_cast<std::int32_t>(p.batch);
  a.key_heads = static_cast<std::int32_t>(p.key_heads);
  a.group = static_cast<std::int32_t>(p.query_heads / p.key_heads);
  a.rows = static_cast<std::int32_t>(p.rows);
  a.dk = static_cast<std::int32_t>(p.dk);
  a.dv = static_cast<std::int32_t>(p.dv);
  a.causal = static_cast<std::int32_t>(params.causal);
  a.scale = params.scale;
  a.softcap = params.softcap;
  a.mask_type = mask_type(input(call, SY_ATTENTION_IN_MASK));
  a.plain = params.scale > 0 && !(params.softcap > 0) && a.mask_type == MaskType::none &&
            input(call, SY_ATTENTION_IN_ALIBI) == nullptr;
  a.splits = static_cast<std::int32_t>(p.splits);
  a.row_tiles = static_cast<std::int32_t>(p.row_tiles);
  return a;
}

void set_tensors(Work &work, AttentionArguments &a, const sy_call &call, const Array &o,
                 const Array &lse) {
  const sy_tensor &q = *call.inputs[SY_ATTENTION_IN_Q], &k = *call.inputs[SY_ATTENTION_IN_K],
                  &v = *call.inputs[SY_ATTENTION_IN_V];
  const Array qa = work.input(&q, Repeats::keep), ka = work.input(&k, Repeats::keep),
              va = work.input(&v, Repeats::keep);
  a.q = qa.as<char>();
  a.k = ka.as<char>();
  a.v = va.as<char>();
  set_strides(a.q_strides, qa);
  set_strides(a.k_strides, ka);
  set_strides(a.v_strides, va);
  a.q_fast = fast(qa, q);
  a.k_fast = fast(ka, k);
  a.v_fast = fast(va, v);
  const Array mask = work.input(input(call, SY_ATTENTION_IN_MASK), Repeats::keep);
  a.mask = mask.as<char>();
  set_strides(a.mask_strides, mask);
  const Array sinks = work.input(input(call, SY_ATTENTION_IN_SINKS), Repeats::keep);
  a.sinks = sinks.as<float>();
  a.sinks_stride = sinks.strides[0];
  const Array alibi = work.input(input(call, SY_ATTENTION_IN_ALIBI), Repeats::keep);
  a.alibi = alibi.as<float>();
  a.alibi_stride = alibi.strides[0];
  const Array lengths = work.input(input(call, SY_ATTENTION_IN_KV_LENGTHS), Repeats::keep);
  a.lengths = lengths.as<std::int32_t>();
  a.lengths_stride = lengths.strides[0];
  a.o = o.as<char>();
  set_strides(a.o_strides, o);
  a.lse = lse.as<float>();
  std::copy_n(lse.strides, 3, a.lse_strides);
}

std::int32_t run(const KernelDef &, Device &device, const sy_call &call, sy_error *error) {
  Work work(device, call);
  const Plan p = plan_of(device.about(), call);
  const Array o = work.output(call.outputs[SY_ATTENTION_OUT_O]), lse = work.output(lse_of(call));
  if (p.rows == 0 || p.batch == 0) return work.finish(error);
  AttentionArguments a = arguments_of(call, p);
  set_tensors(work, a, call, o, lse);
  if (p.splits > 1) {
    const std::int64_t parts = p.splits * p.batch * p.key_heads * p.rows;
    a.part_sums = work.take<float>(parts * p.dv);
    a.part_scales = work.take<float>(parts * 2);
  }
  work.computing();
  const std::string type = type_name(call.inputs[SY_ATTENTION_IN_Q]->dtype);
  const std::string kernel = "attention_" + type + "_" + std::to_string(p.depth) +
                             (p.scalar ? ""
                              : p.few  ? "_few"
                                       : "_many");
  work.launch(Family::attention, kernel.c_str(), {p.row_tiles * p.splits, p.key_heads, p.batch},
              p.threads, p.shared, a);
  if (p.splits > 1)
    work.launch(Family::attention, ("attention_merge_" + type).c_str(),
                {p.rows, p.key_heads, p.batch}, kMergeThreads, 0, a);
  return work.finish(error);
}

std::int32_t refuse(sy_error *reason, const std::string &why) {
  return cpu::failure(reason, SY_E_UNSUPPORTED, why.c_str());
}

/// Does the call use an input or parameter that came after those of sy_attention_params?
bool has_more(const sy_call &call) {
  for (std::uint32_t i = SY_ATTENTION_INPUTS; i < call.n_inputs; ++i)
    if (call.inputs[i] != nullptr) return true;
  const auto *params = static_cast<const sy_attention_params *>(call.params);
  const auto *bytes = static_cast<const char *>(call.params);
  return std::any_of(bytes + std::min<std::size_t>(sizeof *params, params->struct_size),
                     bytes + params->struct_size, [](char byte) { return byte != 0; });
}

std::int32_t check_call(const Description &about, const sy_call &call, sy_error *reason) {
  if (has_more(call))
    return refuse(reason, "kept keys, pages and quantised keys are not offered on CUDA devices");
  const Plan p = plan_of(about, call);
  if (std::max(p.dk, p.dv) > kLargestHead) return refuse(reason, "heads of more than 256 elements");
  if (p.shared > static_cast<unsigned>(about.shared_bytes))
    return refuse(reason,
                  "the device's blocks have too little shared memory for heads of this size");
  if (p.key_heads > 65535 || p.batch > 65535)
    return refuse(reason, "more than 65,535 key heads or sequences");
  if (p.rows > 1ll << 30 || p.keys > 1ll << 30)
    return refuse(reason, "more than 1,073,741,824 queries of a key head, or keys");
  return SY_OK;
}

std::int32_t supports_tensor(const KernelDef &, const Description &about, const sy_call &call,
                             sy_error *reason) {
  if (call.inputs[SY_ATTENTION_IN_Q]->dtype.bits != 16)
    return refuse(reason, "tensor cores take 16-bit elements");
  return check_call(about, call, reason);
}
std::int32_t supports_scalar(const KernelDef &, const Description &about, const sy_call &call,
                             sy_error *reason) {
  if (call.inputs[SY_ATTENTION_IN_Q]->dtype.bits != 32)
    return refuse(reason, "this kernel is for f32");
  return check_call(about, call, reason);
}

std::uint64_t estimate(const KernelDef &, const Description &about, const sy_call &call) {
  const Plan p = plan_of(about, call);
  double flops = 2.0 * static_cast<double>(p.batch * p.key_heads) * static_cast<double>(p.rows) *
                 static_cast<double>(p.keys) * static_cast<double>(p.dk + p.dv);
  if (static_cast<const sy_attention_params *>(call.params)->causal != SY_CAUSAL_NONE) flops /= 2;
  const double flops_per_ns = about.processors * (p.scalar ? 60.0 : 1000.0);
  const double kv =
      static_cast<double>(p.batch * p.key_heads * p.keys * (p.dk + p.dv)) * (p.scalar ? 4 : 2);
  return estimate_of(call, p.splits > 1 ? 2 : 1, kv, flops / flops_per_ns);
}

constexpr std::uint32_t kTraits = SY_TRAIT_DETERMINISTIC | SY_TRAIT_DEVICE_MEMORY;
constexpr KernelDef kKernels[] = {
    {SY_OP_ATTENTION, "attention.half_half.mma", "attention.cuda.mma", kTraits, 0, supports_tensor,
     estimate, run, nullptr, nullptr},
    {SY_OP_ATTENTION, "attention.f32_f32.scalar", "attention.cuda.scalar", kTraits, 0,
     supports_scalar, estimate, run, nullptr, nullptr},
};

}  // namespace

KernelList attention_kernels() noexcept { return {kKernels, std::size(kKernels)}; }

}  // namespace switchyard::cuda
