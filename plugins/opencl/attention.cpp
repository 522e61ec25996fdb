// SPDX-License-Identifier: Apache-2.0
/// The operation "attention": kernels/attention.cl.
#include <algorithm>
#include <attention_params.hpp>
#include <cmath>
#include <iterator>

#include "instance.hpp"
#include "launch.hpp"

namespace switchyard::opencl {
namespace {

constexpr std::int64_t kMostElements = 1024;  // of a head: a tile keeps them in private memory
// Splits must not depend on the machine, or results would.
constexpr std::int64_t kFewTiles = 64, kLeastSplit = 256;

constexpr std::int64_t kFewRows = 8;

/// Rows of a tile.
std::int64_t lanes(const Description &about, std::int64_t rows) {
  if (!about.is_cpu()) return 1;
  return about.vector_width >= 16 && rows > kFewRows ? 16 : 8;
}

struct Sizes {
  explicit Sizes(const sy_call &call)
      : batch(call.inputs[SY_ATTENTION_IN_Q]->shape[0]),
        hq(call.inputs[SY_ATTENTION_IN_Q]->shape[1]),
        lq(call.inputs[SY_ATTENTION_IN_Q]->shape[2]),
        dk(call.inputs[SY_ATTENTION_IN_Q]->shape[3]),
        hkv(call.inputs[SY_ATTENTION_IN_K]->shape[1]),
        lkv(call.inputs[SY_ATTENTION_IN_K]->shape[2]),
        dv(call.outputs[SY_ATTENTION_OUT_O]->shape[3]) {
    if (const sy_tensor *table = input_of(call, SY_ATTENTION_IN_BLOCK_TABLE); table != nullptr)
      lkv *= table->shape[1];
  }
  std::int64_t batch, hq, lq, dk, hkv, lkv, dv;
  std::int64_t group() const { return hkv > 0 ? hq / hkv : 1; }
};

std::int32_t supports(const KernelDef &, const Description &about, const sy_call &call,
                      sy_error *reason) {
  // What is newer than this kernel comes in a longer struct or in further inputs.
  bool known = static_cast<const sy_attention_params *>(call.params)->struct_size <=
               sizeof(sy_attention_kv_params);
  for (std::uint32_t i = SY_ATTENTION_KV_INPUTS; i < call.n_inputs; ++i)
    known = known && call.inputs[i] == nullptr;
  const std::uint32_t format = cpu::attention_params(call).kv_format;
  if (!known ||
      (format != SY_QUANT_NONE && format != SY_QUANT_Q8_0 && format != SY_QUANT_MLX_AFFINE4))
    return cpu::failure(reason, SY_E_UNSUPPORTED, "inputs or parameters newer than this kernel");
  const Sizes s(call);
  if (std::max(s.dk, s.dv) > kMostElements)
    return cpu::failure(reason, SY_E_UNSUPPORTED, "heads of more than 1,024 elements");
  const std::int32_t type = call.inputs[SY_ATTENTION_IN_Q]->dtype.bits;
  if ((type == 16 || format != SY_QUANT_NONE) && !about.keeps_denormals)
    return cpu::failure(reason, SY_E_UNSUPPORTED,
                        "the device flushes f32 denormals, through which f16 is widened");
  return SY_OK;
}

double scores(const Sizes &s, const sy_attention_params &params) {
  double keys = static_cast<double>(s.lkv);
  if (params.causal != SY_CAUSAL_NONE && s.lq > 1)
    keys -= std::min(keys, static_cast<double>(s.lq)) / 2;
  if (params.window_left >= 0) keys = std::min(keys, static_cast<double>(params.window_left) + 1);
  return static_cast<double>(s.batch * s.hq) * static_cast<double>(s.lq) * keys;
}

std::uint64_t estimate(const KernelDef &, const Description &about, const sy_call &call) {
  const Sizes s(call);
  const double work = scores(s, *static_cast<const sy_attention_params *>(call.params)) *
                      static_cast<double>(s.dk + s.dv + 24);
  double ns = 2 * kLaunchNs + work * 0.05 / about.units;
  if (!about.unified)
    ns += static_cast<double>(s.batch * s.hkv * s.lkv) * static_cast<double>(s.dk + s.dv) *
          (call.inputs[SY_ATTENTION_IN_K]->dtype.bits / 8) / kTransferBytesPerNs;
  return static_cast<std::uint64_t>(ns);
}

std::int32_t type_of(const sy_tensor *t) {
  if (t == nullptr) return -1;
  if (t->dtype.code == SY_TYPE_BOOL) return 3;
  return t->dtype.bits == 32 ? 0 : t->dtype.code == SY_TYPE_BFLOAT ? 2 : 1;
}

std::int32_t run(const KernelDef &, Device &device, const sy_call &call, sy_error *error) {
  const Sizes s(call);
  const sy_attention_kv_params kv = cpu::attention_params(call);
  const sy_attention_params &params = kv.base;
  const Description &about = device.about();
  const auto input = [&](std::uint32_t slot) { return input_of(call, slot); };
  const sy_tensor *mask_tensor = input(SY_ATTENTION_IN_MASK),
                  *lse_tensor = output_of(call, SY_ATTENTION_OUT_LSE);
  const auto flag = [](const Array &a) { return static_cast<std::int32_t>(a.present() ? 1 : 0); };

  Job job(device, call, error);
  const Array q = job.input(input(SY_ATTENTION_IN_Q)), k = job.input(input(SY_ATTENTION_IN_K)),
              v = job.input(input(SY_ATTENTION_IN_V)), mask = job.input(mask_tensor),
              sinks = job.input(input(SY_ATTENTION_IN_SINKS)),
              alibi = job.input(input(SY_ATTENTION_IN_ALIBI)),
              lengths = job.input(input(SY_ATTENTION_IN_KV_LENGTHS)),
              table = job.input(input(SY_ATTENTION_IN_BLOCK_TABLE)),
              o = job.output(call.outputs[SY_ATTENTION_OUT_O]), lse = job.output(lse_tensor);

  const std::int64_t group = s.group(), rows = group * s.lq, w = lanes(about, rows);
  const bool few = about.is_cpu() && rows <= kFewRows;
  const std::int64_t row_tiles = (rows + w - 1) / w, tiles = s.batch * s.hkv * row_tiles;
  std::int64_t splits = 1;
  if (tiles > 0 && tiles < kFewTiles)
    splits = std::clamp<std::int64_t>((kFewTiles + tiles - 1) / tiles, 1,
                                      std::max<std::int64_t>(1, s.lkv / kLeastSplit));
  std::int64_t split_keys = (s.lkv + splits - 1) / splits;
  split_keys = std::max<std::int64_t>(16, (split_keys + 15) / 16 * 16);
  splits = std::max<std::int64_t>(1, (s.lkv + split_keys - 1) / split_keys);
  const std::int64_t longest = std::max(s.dk, s.dv);
  const std::int64_t most = longest <= 128 ? 128 : longest <= 256 ? 256 : kMostElements;
  const std::int32_t type = type_of(input(SY_ATTENTION_IN_Q));
  const std::int64_t keys = w == 1 ? 8 : few ? 16 : w;
  const std::string options = "-DW=" + std::to_string(w) + " -DKEYS=" + std::to_string(keys) +
                              " -DMOST=" + std::to_string(most) + (few ? " -DFEW=1" : "") +
                              (params.softcap > 0 ? " -DSOFTCAP=1" : "") +
                              (table.rank > 0 ? " -DPAGED=1" : "") +
                              (kv.kv_format == SY_QUANT_NONE   ? ""
                               : kv.kv_format == SY_QUANT_Q8_0 ? " -DQUANT=1"
                                                               : " -DQUANT=2");
  const auto dk = static_cast<std::int32_t>(s.dk), dv = static_cast<std::int32_t>(s.dv);
  const std::int64_t partial = (3 + (few ? most : s.dv)) * w * 4;
  const cl_mem partials =
      job.scratch(splits > 1 ? static_cast<std::uint64_t>(tiles * splits * partial) : 4);

  job.kernel("attention.cl", options, "attend");
  job.arg(tiles * splits).arg(s.lq).arg(s.lkv).arg(dk).arg(dv).arg(group).arg(s.hkv);
  job.arg(row_tiles).arg(splits).arg(split_keys).arg(type);
  job.arg(static_cast<std::int32_t>(params.causal)).arg(params.window_left);
  job.arg(params.window_right).arg(kv.keep).arg(kv.gap).arg(params.scale).arg(params.softcap);
  job.arg(q).dims(q.strides).arg(k).dims(k.strides).arg(v).dims(v.strides);
  job.arg(type_of(mask_tensor)).arg(mask).dims(mask.strides);
  job.arg(flag(sinks)).arg(sinks).arg(sinks.strides[0]);
  job.arg(flag(alibi)).arg(alibi).arg(alibi.strides[0]);
  job.arg(flag(lengths)).arg(lengths).arg(lengths.strides[0]);
  job.arg(o).dims(o.strides).arg(flag(lse)).arg(lse).dims(lse.strides).arg(partials);
  if (table.rank > 0) {
    const sy_tensor &pages = *input(SY_ATTENTION_IN_K);
    job.arg(table)
        .arg(table.strides[0])
        .arg(table.strides[1])
        .arg(pages.shape[0])
        .arg(pages.shape[2]);
  }
  if (kv.kv_format == SY_QUANT_MLX_AFFINE4) {
    job.arg(type_of(input(SY_ATTENTION_IN_K_SCALES))).arg(static_cast<std::int32_t>(kv.kv_group));
    for (const std::uint32_t slot : {SY_ATTENTION_IN_K_SCALES, SY_ATTENTION_IN_K_BIASES,
                                     SY_ATTENTION_IN_V_SCALES, SY_ATTENTION_IN_V_BIASES}) {
      const Array plane = job.input(input(slot));
      job.arg(plane).dims(plane.strides);
    }
  }
  const std::int64_t of_group = job.group();
  const double all = static_cast<double>(std::max<std::int64_t>(tiles * splits, 1));
  const double tile_ns = scores(s, params) * static_cast<double>(s.dk + s.dv + 24) * 0.05 / all *
                         static_cast<double>(of_group);
  job.run(0, static_cast<std::uint64_t>((tiles * splits + of_group - 1) / of_group), tile_ns,
          {0, 1});
  if (splits > 1) {
    job.kernel("attention.cl", options, "merge");
    job.arg(tiles).arg(s.lq).arg(dv).arg(group).arg(s.hkv).arg(row_tiles).arg(splits).arg(type);
    job.arg(flag(sinks)).arg(sinks).arg(sinks.strides[0]);
    job.arg(o).dims(o.strides).arg(flag(lse)).arg(lse).dims(lse.strides).arg(partials);
    job.run(0, static_cast<std::uint64_t>((tiles + of_group - 1) / of_group), 0);
  }
  return job.finish();
}

constexpr KernelDef kKernels[] = {
    {SY_OP_ATTENTION, "attention.any_any.tiles", false, 0, supports, estimate, run},
};

}  // namespace

KernelList attention_kernels() noexcept { return {kKernels, std::size(kKernels)}; }

}  // namespace switchyard::opencl
