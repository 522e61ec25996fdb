// SPDX-License-Identifier: Apache-2.0
// The table of formats, and what the specs accept and refuse.
#include <gtest/gtest.h>

#include <set>

#include "op/op_spec.hpp"
#include "ops/quantize_formats.hpp"
#include "ops/quantize_problems.hpp"

namespace switchyard {
namespace {

TEST(Formats, NamesAndNumbersAreUniqueAndFound) {
  std::set<std::string_view> names;
  for (const QuantFormat &f : quant_formats()) {
    EXPECT_TRUE(names.insert(f.name).second) << f.name;
    EXPECT_EQ(find_quant_format(f.id), &f);
    std::string upper(f.name);
    for (char &c : upper) c = static_cast<char>(std::toupper(c));
    ASSERT_TRUE(parse_quant_format(upper)) << upper;
    EXPECT_EQ(*parse_quant_format(upper), &f);
  }
  EXPECT_EQ(names.size(), quant_format_names().size());
  EXPECT_EQ(find_quant_format(0), nullptr);
  EXPECT_EQ(find_quant_format(9999), nullptr);
}

TEST(Formats, UnknownNamesSuggestTheNearest) {
  const auto error = parse_quant_format("ternry").error();
  EXPECT_EQ(error.code, ErrorCode::usage);
  EXPECT_NE(error.message.find("did you mean 'ternary'"), std::string::npos) << error.message;
}

sy_quantize_params params(sy_quant_format format, std::uint32_t group = 0,
                          std::uint32_t granularity = 0) {
  sy_quantize_params p{};
  p.struct_size = sizeof p;
  p.format = static_cast<std::uint32_t>(format);
  p.group_size = group;
  p.granularity = granularity;
  return p;
}

TEST(Layout, ShapesOfEveryFamily) {
  const std::int64_t shape[] = {2, 3, 512};
  const auto text = [&](const sy_quantize_params &p, DType dtype) {
    const auto l = quant_layout(p, shape, dtype);
    if (!l) return l.error().text();
    std::string s = to_string(l->codes.dtype) + shape_text(l->codes.shape());
    for (const auto &a : {l->scales, l->biases})
      if (a) s += " " + to_string(a->dtype) + shape_text(a->shape());
    return s;
  };
  EXPECT_EQ(text(params(SY_QUANT_Q4_0), dtypes::f16), "u8[2, 3, 288]");
  EXPECT_EQ(text(params(SY_QUANT_Q8_0), dtypes::f32), "u8[2, 3, 544]");
  EXPECT_EQ(text(params(SY_QUANT_TQ2_0), dtypes::f32), "u8[2, 3, 132]");
  EXPECT_EQ(text(params(SY_QUANT_MLX_AFFINE4, 128), dtypes::bf16),
            "u32[2, 3, 64] bf16[2, 3, 4] bf16[2, 3, 4]");
  EXPECT_EQ(text(params(SY_QUANT_MLX_AFFINE8, 32), dtypes::f32),
            "u32[2, 3, 128] f32[2, 3, 16] f32[2, 3, 16]");
  EXPECT_EQ(text(params(SY_QUANT_TERNARY), dtypes::f16), "i8[2, 3, 512] f32[1]");
  EXPECT_EQ(text(params(SY_QUANT_TERNARY, 0, SY_GRANULARITY_ROW), dtypes::f32),
            "i8[2, 3, 512] f32[6]");
  EXPECT_EQ(text(params(SY_QUANT_TERNARY, 256, SY_GRANULARITY_GROUP), dtypes::f32),
            "i8[2, 3, 512] f32[6, 2]");
  EXPECT_EQ(text(params(SY_QUANT_Q6_K), dtypes::f32), "u8[2, 3, 420]");
  EXPECT_EQ(text(params(SY_QUANT_TQ1_0), dtypes::f32), "u8[2, 3, 108]");
  EXPECT_EQ(text(params(SY_QUANT_MXFP4), dtypes::f16), "u32[2, 3, 64] u8[2, 3, 16]");
  EXPECT_EQ(text(params(SY_QUANT_MLX_AFFINE5, 64), dtypes::f16),
            "u32[2, 3, 80] f16[2, 3, 8] f16[2, 3, 8]");
  EXPECT_EQ(text(params(SY_QUANT_TERN2, 64), dtypes::f32),
            "u32[2, 3, 32] f32[2, 3, 8] f32[2, 3, 8]");
  EXPECT_EQ(text(params(SY_QUANT_I2_S), dtypes::f32), "u8[800]");
  EXPECT_EQ(text(params(SY_QUANT_INT8, 0, SY_GRANULARITY_CHANNEL), dtypes::f32),
            "i8[2, 3, 512] f32[2]");
}

TEST(Layout, EmptyTensorsHaveEmptyArrays) {
  const std::int64_t no_rows[] = {0, 64}, no_cols[] = {4, 0};
  EXPECT_EQ(shape_text(quant_layout(params(SY_QUANT_Q4_0), no_rows, dtypes::f32)->codes.shape()),
            "[0, 36]");
  EXPECT_EQ(shape_text(quant_layout(params(SY_QUANT_Q4_0), no_cols, dtypes::f32)->codes.shape()),
            "[4, 0]");
}

TEST(Layout, Refusals) {
  const auto code = [](const sy_quantize_params &p, std::vector<std::int64_t> shape,
                       DType dtype = dtypes::f32) {
    const auto l = quant_layout(p, shape, dtype);
    EXPECT_FALSE(l);
    return l ? ErrorCode::internal : l.error().code;
  };
  EXPECT_EQ(code(params(SY_QUANT_Q4_0), {}), ErrorCode::shape);
  EXPECT_EQ(code(params(SY_QUANT_Q4_0), {2, 33}), ErrorCode::shape);
  EXPECT_EQ(code(params(SY_QUANT_TQ2_0), {128}), ErrorCode::shape);
  EXPECT_EQ(code(params(SY_QUANT_Q4_0), {64}, dtypes::f64), ErrorCode::dtype);
  EXPECT_EQ(code(params(SY_QUANT_Q4_0), {std::int64_t{1} << 62, 32}), ErrorCode::overflow);
  EXPECT_EQ(code(params(SY_QUANT_Q4_0), {-1, 32}), ErrorCode::overflow);
  EXPECT_EQ(code(params(SY_QUANT_NONE), {32}), ErrorCode::invalid_argument);
  EXPECT_EQ(code(params(SY_QUANT_MLX_AFFINE4), {64}), ErrorCode::invalid_argument);
  EXPECT_EQ(code(params(SY_QUANT_TERNARY, 64), {64}), ErrorCode::invalid_argument);
  EXPECT_EQ(code(params(SY_QUANT_TERNARY, 16, SY_GRANULARITY_GROUP), {64}),
            ErrorCode::invalid_argument);
  EXPECT_EQ(code(params(SY_QUANT_TERNARY, 64, 7), {64}), ErrorCode::invalid_argument);
}

/// A valid call of 4 x 64 values whose parts tests then break.
struct Call {
  std::vector<float> x = std::vector<float>(4 * 64, 1.0f);
  std::vector<std::uint32_t> codes = std::vector<std::uint32_t>(4 * 8);
  std::vector<float> scales = std::vector<float>(4), biases = std::vector<float>(4);
  sy_quantize_params p = params(SY_QUANT_MLX_AFFINE4, 64);
  std::uint32_t struct_size = sizeof p;
  sy_tensor in{}, out[3]{};
  CallFrame frame{SY_QUANTIZE_INPUTS, SY_QUANTIZE_OUTPUTS};

  Call() {
    const std::int64_t dims[] = {4, 64}, packed[] = {4, 8}, groups[] = {4, 1};
    in = TensorView(static_cast<void *>(x.data()), dtypes::f32, dims).raw();
    out[0] = TensorView(static_cast<void *>(codes.data()), dtypes::u32, packed).raw();
    out[1] = TensorView(static_cast<void *>(scales.data()), dtypes::f32, groups).raw();
    out[2] = TensorView(static_cast<void *>(biases.data()), dtypes::f32, groups).raw();
  }
  /// "" if valid.
  std::string check() {
    frame.params(p);
    p.struct_size = struct_size;
    frame.call().params_size = struct_size;
    frame.input(0, TensorView(in));
    for (std::size_t i = 0; i < 3; ++i) frame.output(i, TensorView(out[i]));
    const Status ok = quantize_spec().validate(frame.call());
    return ok ? "" : ok.error().message;
  }
};

TEST(Validate, AcceptsWhatIsRight) {
  EXPECT_EQ(Call().check(), "");
  Call strided;  // rows 32 apart overlap, which is fine for an input
  strided.in.strides[0] = 32;
  EXPECT_EQ(strided.check(), "");
  Call reversed;
  reversed.in.strides[0] = -64;
  reversed.in.byte_offset = 3 * 64 * sizeof(float);
  EXPECT_EQ(reversed.check(), "");
}

TEST(Validate, CallersOfTheFirstHeaderHaveShorterParams) {
  Call old;
  old.struct_size = 24;
  old.p.rounding = 99;  // beyond what the caller's struct has
  EXPECT_EQ(old.check(), "");
  old.struct_size = 20;
  EXPECT_NE(old.check().find("struct_size"), std::string::npos);
}

TEST(Validate, RefusesWhatIsWrong) {
  const auto refused = [](auto change, std::string_view words) {
    Call c;
    change(c);
    const std::string message = c.check();
    EXPECT_NE(message.find(words), std::string::npos) << "got: " << message;
  };
  refused([](Call &c) { c.in.strides[1] = 2; }, "contiguous");
  refused([](Call &c) { c.in.strides[0] = 65; }, "reaches outside");
  refused([](Call &c) { c.in.strides[0] = -64; }, "reaches outside");
  refused([](Call &c) { c.in.strides[0] = INT64_MAX; }, "too large");
  refused([](Call &c) { c.in.byte_offset = 2, c.in.shape[0] = 3; }, "not aligned");
  refused([](Call &c) { c.in.shape[0] = -4; }, "shape");
  refused([](Call &c) { c.in.dtype = dtypes::i32; }, "i32");
  refused([](Call &c) { c.in.rank = 0; }, "rank");
  refused([](Call &c) { c.out[0].dtype = dtypes::u8; }, "must be u32");
  refused([](Call &c) { c.out[0].shape[1] = 7; }, "must have [4, 8]");
  refused([](Call &c) { c.out[0].strides[0] = 9; }, "contiguous");
  refused([](Call &c) { c.out[0].flags = SY_TENSOR_READ_ONLY; }, "read-only");
  refused([](Call &c) { c.out[1].dtype = dtypes::f16; }, "scales is f16");
  refused([](Call &c) { c.out[2] = {}; }, "biases is missing");
  refused([](Call &c) { c.p = params(SY_QUANT_Q4_0); }, "must be u8");
  refused([](Call &c) { c.p.format = 77; }, "77");
  refused([](Call &c) { c.p.nonfinite = 2; }, "non-finite");
  refused([](Call &c) { c.p.rounding = SY_ROUNDING_STOCHASTIC; }, "rounding stochastic");
  refused([](Call &c) { c.p.reserved = 1; }, "reserved");
}

TEST(Validate, DequantizeRefusesOverlappingOutput) {
  std::vector<float> y(4 * 64);
  std::vector<std::uint8_t> codes(4 * 36);
  const std::int64_t dims[] = {4, 64}, strides[] = {32, 1}, packed[] = {4, 36};
  sy_quantize_params p = params(SY_QUANT_Q4_0);
  CallFrame frame(SY_DEQUANTIZE_INPUTS, SY_DEQUANTIZE_OUTPUTS);
  frame.params(p);
  frame.input(0, TensorView(static_cast<const void *>(codes.data()), dtypes::u8, packed));
  frame.output(0, TensorView(y.data(), dtypes::f32, dims));
  EXPECT_TRUE(dequantize_spec().validate(frame.call()));
  frame.output(0, TensorView(y.data(), dtypes::f32, dims, strides));
  const Status overlap = dequantize_spec().validate(frame.call());
  ASSERT_FALSE(overlap);
  EXPECT_EQ(overlap.error().code, ErrorCode::shape);
}

TEST(Problems, DescriptionsReproduceTheClass) {
  for (const OpSpec *spec : {&quantize_spec(), &dequantize_spec()})
    for (const char *text :
         {"n=1536,rows=6,dtype=f16,format=tq2_0,layout=strided",
          "n=4096,rows=4,dtype=bf16,format=mlx_affine8,group_size=32,layout=permuted",
          "n=4100,rows=4,dtype=f32,format=ternary,granularity=row"}) {
      const auto problem = spec->make_problem(*Shape::parse(text), 1);
      ASSERT_TRUE(problem) << problem.error().text();
      auto outputs = ProblemOutputs::make(*problem);
      ASSERT_TRUE(outputs);
      CallFrame frame(static_cast<std::uint32_t>(problem->inputs.size()),
                      static_cast<std::uint32_t>(problem->outputs.size()));
      bind(*problem, *outputs, frame);
      ASSERT_TRUE(spec->validate(frame.call())) << text;
      const Shape described = spec->describe(frame.call());
      const Shape wanted = *Shape::parse(text);
      for (const auto &[name, value] : wanted.items())
        EXPECT_EQ(described.word(name, ""), value) << name << " of " << described.text();
      EXPECT_TRUE(spec->make_problem(described, 1)) << described.text();
      EXPECT_FALSE(spec->gate_shapes(described).empty());
    }
}

TEST(Problems, BadItemsAreUsageErrors) {
  for (const char *text : {"n=33,format=nope", "n=64,frmt=q4_0", "n=64,data=odd", "n=64,rows=3",
                           "n=64,layout=diagonal", "n=64,data=nonfinite", "n=-1"}) {
    const auto problem = quantize_spec().make_problem(*Shape::parse(text), 1);
    ASSERT_FALSE(problem) << text;
    EXPECT_EQ(problem.error().code, ErrorCode::usage) << text;
  }
}

TEST(Compare, FindsOneWrongByteAndAcceptsNan) {
  const auto problem = quantize_spec().make_problem(*Shape::parse("n=128,rows=2,format=q8_0"), 1);
  ASSERT_TRUE(problem);
  auto a = ProblemOutputs::make(*problem), b = ProblemOutputs::make(*problem);
  CallFrame fa(1, 3), fb(1, 3);
  bind(*problem, *a, fa);
  bind(*problem, *b, fb);
  std::memset(a->view(0).data<char>(), 1, 136);
  std::memset(b->view(0).data<char>(), 1, 136);
  EXPECT_FALSE(quantize_spec().compare(*problem, fa.call(), fb.call(), {}));
  a->view(0).data<char>()[100] = 2;
  const auto difference = quantize_spec().compare(*problem, fa.call(), fb.call(), {});
  ASSERT_TRUE(difference);
  EXPECT_NE(difference->find("row 1, element 32"), std::string::npos) << *difference;

  const float nan1 = __builtin_nanf("1"), nan2 = __builtin_nanf("2");
  const std::int64_t one[] = {1};
  const TensorView x(static_cast<const void *>(&nan1), dtypes::f32, one),
      y(static_cast<const void *>(&nan2), dtypes::f32, one);
  EXPECT_FALSE(exact_difference("y", &x.raw(), &y.raw()));
}

}  // namespace
}  // namespace switchyard
