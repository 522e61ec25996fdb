// SPDX-License-Identifier: Apache-2.0
/// Which attention problems are checked: everything once for conformance, a call's own kind at the
/// gate.
#include <algorithm>

#include "op/octave.hpp"
#include "ops/attention_problem.hpp"

namespace switchyard::attention_op {
namespace {

Shape parsed(std::string_view text) { return Shape::parse(text).value_or(Shape()); }

std::int64_t size_of(const Shape &shape, std::string_view name, std::int64_t fallback) {
  return shape.integer(name, fallback, INT64_MIN, INT64_MAX).value_or(fallback);
}

}  // namespace

std::vector<Shape> conformance_shapes() {
  // Features are combined pairwise; sizes sit on, before and behind tiles of 4, 8, 16, 48, 64, 256.
  static constexpr std::string_view kShapes[] = {
      "b=1,hq=1,hkv=1,lq=1,lkv=1,d=1",
      "b=2,hq=3,hkv=1,lq=7,lkv=9,d=5,lse=1",
      "b=1,hq=4,hkv=4,lq=64,lkv=64,d=64,causal=top_left",
      "b=1,hq=8,hkv=2,lq=49,lkv=131,d=64,causal=bottom_right,lse=1",
      "b=1,hq=8,hkv=2,lq=131,lkv=49,d=16,causal=bottom_right,lse=1",
      "b=1,hq=8,hkv=2,lq=131,lkv=49,d=16,causal=top_left,lse=1",
      "b=2,hq=6,hkv=2,lq=65,lkv=65,d=40,dv=24,causal=bottom_right,layout=blhd",
      "b=1,hq=2,hkv=1,lq=33,lkv=257,d=80,dv=129,layout=padded,lse=1",
      "b=1,hq=3,hkv=3,lq=17,lkv=70,d=33,dv=7,layout=unit_stride_off,lse=1",
      "b=1,hq=5,hkv=1,lq=1,lkv=300,d=96,layout=unit_stride_off,lse=1",
      "b=2,hq=4,hkv=4,lq=20,lkv=50,d=32,layout=expanded,causal=bottom_right",
      "b=1,hq=4,hkv=2,lq=31,lkv=67,d=24,layout=reversed,causal=bottom_right,lse=1",
      "b=1,hq=4,hkv=2,lq=2,lkv=300,d=24,layout=reversed,causal=bottom_right",
      "b=1,hq=2,hkv=2,lq=30,lkv=40,d=20,layout=zero_stride",
      "b=1,hq=2,hkv=2,lq=1,lkv=290,d=20,layout=zero_stride",
      "b=1,hq=4,hkv=2,lq=90,lkv=90,d=32,window=17,causal=bottom_right,lse=1",
      "b=1,hq=4,hkv=2,lq=90,lkv=190,d=32,window=1,causal=bottom_right",
      "b=1,hq=4,hkv=2,lq=90,lkv=70,d=32,window_left=5,window_right=9,lse=1",
      "b=1,hq=2,hkv=1,lq=100,lkv=180,d=16,window_left=20,window_right=0,causal=top_left",
      "b=1,hq=8,hkv=2,lq=1,lkv=700,d=64,window=300,causal=bottom_right,lse=1",
      "b=1,hq=4,hkv=2,lq=75,lkv=139,d=32,mask=bool,lse=1",
      "b=2,hq=4,hkv=1,lq=41,lkv=77,d=32,mask=bool,mask_shape=full,causal=bottom_right",
      "b=2,hq=4,hkv=2,lq=60,lkv=210,d=16,mask=bool,pattern=blocks,lse=1",
      "b=1,hq=4,hkv=2,lq=60,lkv=66,d=16,mask=bool,pattern=empty_rows,lse=1",
      "b=1,hq=4,hkv=2,lq=30,lkv=66,d=16,mask=bool,pattern=hidden,lse=1",
      "b=1,hq=4,hkv=2,lq=30,lkv=66,d=16,mask=bool,pattern=hidden,sinks=1,lse=1",
      "b=1,hq=4,hkv=2,lq=30,lkv=66,d=16,mask=bool,mask_shape=keys,window=20",
      "b=1,hq=4,hkv=2,lq=100,lkv=100,d=32,mask=bool,pattern=causal,layout=padded",
      "b=1,hq=4,hkv=2,lq=75,lkv=139,d=32,mask=additive,lse=1",
      "b=2,hq=4,hkv=4,lq=33,lkv=70,d=32,mask=additive,mask_shape=full,softcap=5,lse=1",
      "b=1,hq=4,hkv=2,lq=60,lkv=66,d=16,mask=additive,pattern=lowest,lse=1",
      "b=1,hq=4,hkv=2,lq=60,lkv=210,d=16,mask=additive,pattern=blocks,sinks=1",
      "b=1,hq=4,hkv=2,lq=40,lkv=70,d=16,mask=additive,pattern=plain,layout=unit_stride_off",
      "b=1,hq=4,hkv=1,lq=40,lkv=70,d=16,mask=additive_f16,causal=top_left",
      "b=1,hq=4,hkv=1,lq=40,lkv=70,d=16,mask=additive_bf16,pattern=empty_rows",
      "b=1,hq=8,hkv=2,lq=1,lkv=530,d=64,mask=additive,mask_shape=full,lse=1",
      "b=1,hq=8,hkv=2,lq=1,lkv=530,d=64,mask=bool,sinks=1,lse=1",
      "b=1,hq=8,hkv=2,lq=2,lkv=530,d=64,mask=bool,pattern=hidden,lse=1",
      "b=1,hq=4,hkv=2,lq=50,lkv=110,d=64,softcap=30,causal=bottom_right,lse=1",
      "b=1,hq=4,hkv=2,lq=50,lkv=110,d=64,softcap=2,data=large,sinks=1",
      "b=1,hq=8,hkv=1,lq=1,lkv=400,d=64,softcap=20,sinks=1,lse=1",
      "b=1,hq=8,hkv=4,lq=37,lkv=53,d=64,sinks=1,causal=top_left,window=9,lse=1",
      "b=1,hq=4,hkv=2,lq=50,lkv=150,d=64,data=large,lse=1",
      "b=1,hq=4,hkv=2,lq=70,lkv=130,d=48,data=zero_values",
      "b=1,hq=6,hkv=3,lq=70,lkv=70,d=32,data=nan_key,causal=bottom_right,lse=1",
      "b=1,hq=6,hkv=3,lq=70,lkv=130,d=32,data=nan_key,window=30,causal=bottom_right,lse=1",
      "b=1,hq=6,hkv=3,lq=40,lkv=70,d=32,data=nan_key,mask=bool,lse=1",
      "b=1,hq=6,hkv=3,lq=40,lkv=70,d=32,data=nan_key,mask=additive,sinks=1,lse=1",
      "b=1,hq=6,hkv=3,lq=70,lkv=70,d=32,data=inf_key,causal=top_left,lse=1",
      "b=1,hq=6,hkv=3,lq=1,lkv=600,d=32,data=nan_key,lse=1",
      "b=1,hq=6,hkv=3,lq=2,lkv=600,d=32,data=nan_key,window=9,causal=bottom_right,lse=1",
      "b=2,hq=4,hkv=2,lq=0,lkv=5,d=8,lse=1",
      "b=2,hq=4,hkv=2,lq=5,lkv=0,d=8,lse=1",
      "b=2,hq=4,hkv=2,lq=5,lkv=0,d=8,sinks=1,lse=1",
      "b=0,hq=4,hkv=2,lq=5,lkv=7,d=8",
      "b=3,hq=4,hkv=2,lq=40,lkv=90,d=32,alibi=1,causal=bottom_right,lse=1",
      "b=1,hq=4,hkv=2,lq=1,lkv=400,d=32,alibi=1,sinks=1,lse=1",
      "b=4,hq=4,hkv=2,lq=40,lkv=90,d=32,lens=1,causal=bottom_right,lse=1",
      "b=4,hq=8,hkv=2,lq=1,lkv=600,d=32,lens=1,lse=1",
      "b=4,hq=4,hkv=2,lq=9,lkv=90,d=32,lens=1,mask=bool,alibi=1,layout=blhd",
      "b=1,hq=32,hkv=1,lq=1,lkv=1100,d=64,lse=1",
      "b=1,hq=12,hkv=4,lq=5,lkv=1100,d=128,causal=bottom_right,lse=1",
      "b=1,hq=8,hkv=2,lq=1,lkv=1100,d=128,lse=1",
      "b=1,hq=4,hkv=1,lq=30,lkv=1100,d=128,causal=bottom_right,lse=1",
      "b=1,hq=4,hkv=1,lq=6,lkv=1300,d=16,mask=additive,causal=bottom_right,lse=1",
      // Kept keys beside windows; dropped keys before them.
      "b=1,hq=4,hkv=2,lq=90,lkv=190,d=32,window=17,keep=5,causal=bottom_right,lse=1",
      "b=1,hq=4,hkv=2,lq=1,lkv=700,d=32,window=30,keep=4,causal=bottom_right,lse=1",
      "b=1,hq=4,hkv=2,lq=3,lkv=900,d=32,window=30,keep=300,causal=bottom_right,lse=1",
      "b=1,hq=4,hkv=2,lq=1,lkv=700,d=32,window=30,keep=4,gap=1000,alibi=1,causal=bottom_right",
      "b=1,hq=4,hkv=2,lq=80,lkv=150,d=32,window=30,keep=9,gap=77,alibi=1,causal=bottom_right,lse=1",
      "b=3,hq=4,hkv=2,lq=9,lkv=90,d=32,window=8,keep=3,lens=1,causal=bottom_right,lse=1",
      "b=1,hq=4,hkv=2,lq=50,lkv=40,d=32,window=3,keep=100,causal=bottom_right,sinks=1,lse=1",
      "b=1,hq=4,hkv=2,lq=50,lkv=70,d=32,window_left=2,window_right=4,keep=7,mask=bool,lse=1",
      "b=1,hq=6,hkv=3,lq=70,lkv=130,d=32,data=nan_key,window=9,keep=5,causal=bottom_right,lse=1",
      "b=1,hq=6,hkv=3,lq=70,lkv=130,d=32,data=nan_key,window=9,keep=66,causal=bottom_right,lse=1",
      // Pages.
      "b=3,hq=4,hkv=2,lq=1,lkv=300,d=32,page=16,causal=bottom_right,lse=1",
      "b=3,hq=4,hkv=2,lq=1,lkv=900,d=64,page=64,causal=bottom_right,lse=1",
      "b=2,hq=4,hkv=2,lq=1,lkv=2000,d=64,page=256,window=300,causal=bottom_right",
      "b=4,hq=4,hkv=4,lq=40,lkv=200,d=32,page=16,causal=bottom_right,lse=1",
      "b=3,hq=4,hkv=1,lq=30,lkv=100,d=33,dv=20,page=7,causal=bottom_right,lse=1",
      "b=3,hq=4,hkv=2,lq=5,lkv=50,d=16,page=1,causal=bottom_right,lse=1",
      "b=3,hq=4,hkv=2,lq=90,lkv=200,d=32,page=128,layout=blhd,mask=bool,lse=1",
      "b=2,hq=4,hkv=2,lq=33,lkv=150,d=32,page=32,layout=unit_stride_off,alibi=1,lse=1",
      "b=2,hq=4,hkv=2,lq=33,lkv=150,d=32,page=32,layout=expanded,softcap=9,sinks=1",
      "b=3,hq=6,hkv=3,lq=3,lkv=300,d=32,page=64,data=nan_key,causal=bottom_right,lse=1",
      "b=2,hq=4,hkv=2,lq=12,lkv=150,d=32,page=32,window=20,keep=40,causal=bottom_right,lse=1",
      "b=1,hq=4,hkv=2,lq=2,lkv=600,d=32,page=512,mask=additive,mask_shape=keys,layout=reversed",
      // Quantised keys and values.
      "b=1,hq=8,hkv=2,lq=1,lkv=700,d=128,kv=q8,causal=bottom_right,lse=1",
      "b=2,hq=8,hkv=2,lq=5,lkv=300,d=64,dv=32,kv=q8,causal=bottom_right,lse=1",
      "b=1,hq=4,hkv=2,lq=70,lkv=150,d=32,kv=q8,causal=bottom_right,lse=1",
      "b=1,hq=4,hkv=2,lq=60,lkv=150,d=96,kv=q8,layout=blhd,window=20,keep=3,mask=bool,lse=1",
      "b=1,hq=4,hkv=2,lq=1,lkv=600,d=96,kv=q8,layout=padded,data=large,softcap=20,lse=1",
      "b=3,hq=4,hkv=2,lq=1,lkv=300,d=32,kv=q8,page=16,causal=bottom_right,lse=1",
      "b=3,hq=6,hkv=3,lq=40,lkv=90,d=32,kv=q8,lens=1,data=nan_key,causal=bottom_right,lse=1",
      "b=1,hq=8,hkv=2,lq=1,lkv=700,d=128,kv=q4,causal=bottom_right,lse=1",
      "b=2,hq=8,hkv=2,lq=5,lkv=300,d=64,dv=128,kv=q4,causal=bottom_right,lse=1",
      "b=1,hq=4,hkv=2,lq=70,lkv=150,d=64,kv=q4_f32,causal=bottom_right,lse=1",
      "b=1,hq=4,hkv=2,lq=60,lkv=150,d=96,kv=q4,layout=blhd,alibi=1,sinks=1,lse=1",
      "b=1,hq=4,hkv=2,lq=1,lkv=600,d=192,kv=q4_f16,layout=padded,data=large,lse=1",
      "b=1,hq=4,hkv=2,lq=3,lkv=600,d=64,kv=q4_bf16,kv_group=32,layout=reversed,lse=1",
      "b=3,hq=4,hkv=2,lq=1,lkv=300,d=64,kv=q4,page=64,causal=bottom_right,lse=1",
      "b=3,hq=4,hkv=4,lq=50,lkv=100,d=64,kv=q4,page=16,layout=expanded,causal=bottom_right",
      "b=1,hq=4,hkv=2,lq=70,lkv=130,d=64,kv=q4,data=zero_values",
  };
  std::vector<Shape> shapes;
  for (const std::string_view text : kShapes)
    for (const char *dtype : {"f32", "f16", "bf16"})
      shapes.push_back(parsed(text).set("dtype", dtype));
  return shapes;
}

std::vector<Shape> gate_shapes(const Shape &like) {
  const std::int64_t b = size_of(like, "b", 1), hq = size_of(like, "hq", 8),
                     hkv = std::max<std::int64_t>(1, size_of(like, "hkv", hq)),
                     lq = size_of(like, "lq", 128), lkv = size_of(like, "lkv", lq),
                     d = size_of(like, "d", 64), dv = size_of(like, "dv", d);
  const std::int64_t group = std::max<std::int64_t>(1, hq / hkv);
  // About 20 ms of plain loops in f64.
  const std::int64_t most_scores =
      std::max<std::int64_t>(64, 6'000'000 / std::max<std::int64_t>(1, d + dv));
  struct Lengths {
    std::int64_t q, kv;
  };
  std::vector<Shape> shapes;
  // Few queries over many keys, tiles with tails, whole tiles; none longer than the call's own.
  for (const Lengths most : {Lengths{3, 1051}, Lengths{67, 203}, Lengths{48, 128}}) {
    Lengths n{std::min(octave_odd(lq), most.q), std::min(octave_odd(lkv), most.kv)};
    std::int64_t heads = std::min<std::int64_t>(hkv, 2), batch = std::min<std::int64_t>(b, 2);
    const auto scores = [&] { return batch * heads * group * n.q * n.kv; };
    if (scores() > most_scores) batch = std::min<std::int64_t>(batch, 1);
    if (scores() > most_scores) heads = 1;
    while (scores() > most_scores && n.q > 1) n.q = (n.q + 1) / 2;
    while (scores() > most_scores && n.kv > 1) n.kv = (n.kv + 1) / 2;
    Shape s = like;
    s.set("b", batch).set("hq", hq == 0 ? 0 : heads * group).set("hkv", heads);
    s.set("lq", n.q).set("lkv", n.kv);
    for (const char *name : {"window", "window_left", "window_right"})
      if (const std::int64_t w = size_of(like, name, -1); w > 37) s.set(name, std::int64_t{37});
    if (size_of(like, "keep", 0) > 11) s.set("keep", std::int64_t{11});
    if (size_of(like, "gap", 0) > 29) s.set("gap", std::int64_t{29});
    // Several pages, without more keys than the call has.
    if (const std::int64_t page = size_of(like, "page", 0); page > n.kv)
      s.set("page", std::max<std::int64_t>(1, n.kv / 3));
    if (std::find(shapes.begin(), shapes.end(), s) == shapes.end()) shapes.push_back(std::move(s));
  }
  return shapes;
}

}  // namespace switchyard::attention_op
