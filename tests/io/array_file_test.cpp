// SPDX-License-Identifier: Apache-2.0
#include "io/array_file.hpp"

#include <bit>
#include <cmath>

#include "io/npz.hpp"
#include "io/png.hpp"
#include "io/safetensors.hpp"
#include "io_test_util.hpp"

namespace switchyard {
namespace {

using test::expect_error;
using test::expect_golden;
using test::expect_same;
using test::Folder;
using test::golden;
using test::kGoldens;
using test::read_bytes;
using test::write_bytes;

TEST(ArrayName, SplitsKeysOnlyWhereTheyCanBe) {
  const auto check = [](const std::string &name, const std::string &path, const std::string &key) {
    const ArrayName got = parse_array_name(name);
    EXPECT_EQ(got.path, path);
    EXPECT_EQ(got.key, key);
  };
  check("a.npy", "a.npy", "");
  check("a.npz", "a.npz", "");
  check("a.npz:x", "a.npz", "x");
  check("a.NPZ:x:y", "a.NPZ", "x:y");
  check("d:r/a.npy", "d:r/a.npy", "");
  check("d:r/m.safetensors:layer.0:w", "d:r/m.safetensors", "layer.0:w");
  check("a.npy:x", "a.npy:x", "");
}

TEST(ArrayFile, RoundTripsByExtension) {
  Folder f;
  const Tensor array = golden(dtypes::f32, {3, 4});
  for (const char *name : {"a.npy", "a.npz", "a.npz:key", "a.safetensors", "a.safetensors:w"}) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(write_array(f / name, array).has_value());
    expect_same(read_array(f / name), array);
    expect_same(read_array(parse_array_name(f / name).path), array);  // the only one
  }
}

TEST(ArrayFile, ContentDecides) {
  Folder f;
  write_bytes(f / "points.dat", read_bytes(kGoldens + "c_f4.npy"));
  expect_golden(read_array(f / "points.dat"), dtypes::f32, {2, 3});
  write_bytes(f / "really.npz", read_bytes(kGoldens + "c_f4.npy"));
  expect_golden(read_array(f / "really.npz"), dtypes::f32, {2, 3});
  write_bytes(f / "a.txt", "hello, this is text");
  expect_error(read_array(f / "a.txt"), ErrorCode::io, "not an array file");
  write_bytes(f / "a.npy", "hello, this is text");
  expect_error(read_array(f / "a.npy"), ErrorCode::io, "does not begin with");
  write_bytes(f / "a.npy", "");
  expect_error(read_array(f / "a.npy"), ErrorCode::io, "too short");
}

TEST(ArrayFile, SaysWhichArraysThereAre) {
  expect_error(read_array(kGoldens + "stored.npz"), ErrorCode::usage, "holds 5 arrays",
               kGoldens + "stored.npz");
  expect_error(read_array(kGoldens + "stored.npz:pints"), ErrorCode::usage,
               "did you mean 'points'?");
  expect_golden(read_array(kGoldens + "stored.npz:points"), dtypes::f32, {3, 4});
  expect_golden(read_array(kGoldens + "small.safetensors:step"), dtypes::i64, {});
  expect_error(read_array(kGoldens + "small.safetensors"), ErrorCode::usage, "choose one");
  expect_error(read_array(kGoldens + "none.npy"), ErrorCode::io, "No such file",
               kGoldens + "none.npy");
  expect_error(read_array(kGoldens), ErrorCode::io, "is a directory");
}

TEST(ArrayFile, WritingNeedsAKnownExtension) {
  Folder f;
  const Tensor array = golden(dtypes::f32, {3, 4});
  expect_error(write_array(f / "a.txt", array), ErrorCode::usage, "cannot tell the format");
  expect_error(write_array(f / "a.npz", golden(dtypes::bf16, {2})), ErrorCode::dtype, "bf16",
               f / "a.npz");
  expect_error(write_array(f / "a.npy", golden(dtypes::bf16, {2})), ErrorCode::dtype, "bf16",
               f / "a.npy");
  EXPECT_EQ(f.files(), 0u);
  ASSERT_TRUE(write_array(f / "a.safetensors", golden(dtypes::bf16, {2})).has_value());
  expect_golden(read_array(f / "a.safetensors"), dtypes::bf16, {2});
}

TEST(ArrayFile, CastsOnLoad) {
  expect_golden(read_array_as(kGoldens + "c_f4.npy", dtypes::bf16), dtypes::bf16, {2, 3});
  auto bytes = read_array_as(kGoldens + "c_u1.npy", dtypes::f32);
  ASSERT_TRUE(bytes.has_value());
  for (int i = 0; i < 6; ++i) EXPECT_EQ(bytes->data<float>()[i], static_cast<float>(i));
  expect_error(read_array_as(kGoldens + "c_f4.npy", dtypes::i8), ErrorCode::dtype, "cannot cast",
               kGoldens + "c_f4.npy");
}

TEST(Cast, HalvesRoundToNearestEven) {
  const auto f16 = [](float x) { return f32_to_f16(x); };
  EXPECT_EQ(f16(0.f), 0x0000);
  EXPECT_EQ(f16(-0.f), 0x8000);
  EXPECT_EQ(f16(1.f), 0x3c00);
  EXPECT_EQ(f16(65504.f), 0x7bff);
  EXPECT_EQ(f16(65519.996f), 0x7bff);
  EXPECT_EQ(f16(65520.f), 0x7c00);
  EXPECT_EQ(f16(-1e30f), 0xfc00);
  EXPECT_EQ(f16(1.f + 0x1p-11f), 0x3c00);      // tie to even, down
  EXPECT_EQ(f16(1.f + 3 * 0x1p-11f), 0x3c02);  // tie to even, up
  EXPECT_EQ(f16(1.f + 0x1p-11f + 0x1p-20f), 0x3c01);
  EXPECT_EQ(f16(0x1p-24f), 0x0001);
  EXPECT_EQ(f16(0x1p-25f), 0x0000);
  EXPECT_EQ(f16(0x1.000002p-25f), 0x0001);
  EXPECT_EQ(f16(3 * 0x1p-25f), 0x0002);
  EXPECT_EQ(f16(0x1.ffcp-15f), 0x0400);  // the largest subnormal rounds up
  EXPECT_EQ(f16(0x1p-149f), 0x0000);
  EXPECT_EQ(f16(std::nanf("")) & 0x7e00, 0x7e00);
  EXPECT_EQ(f16(std::bit_cast<float>(0x7f800001u)) & 0x7e00, 0x7e00);  // stays a NaN
  EXPECT_EQ(f32_to_bf16(1.f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(f32_to_bf16(1.f + 3 * 0x1p-8f), 0x3f82);
  EXPECT_EQ(f32_to_bf16(3.4e38f), 0x7f80);
  EXPECT_NE(f32_to_bf16(std::bit_cast<float>(0x7f800001u)) & 0x7f, 0);
  for (std::uint32_t h = 0; h < 0x10000; ++h) {
    const auto bits = static_cast<std::uint16_t>(h);
    const bool nan = (h & 0x7fff) > 0x7c00;
    if (!nan) {
      ASSERT_EQ(f32_to_f16(f16_to_f32(bits)), bits);
    } else {
      ASSERT_TRUE(std::isnan(f16_to_f32(bits)));
    }
  }
}

/// One rounding: 1 + 2^-11 + 2^-40 is above the tie, though its f32 neighbour is the tie itself.
TEST(Cast, RoundsOnceFromWideTypes) {
  const double wide[] = {1 + 0x1p-11 + 0x1p-40, 1 + 0x1p-11 - 0x1p-40, 1e300, -1e-300,
                         0x1p-25 + 0x1p-60};
  const TensorView doubles(static_cast<const void *>(wide), dtypes::f64,
                           std::vector<std::int64_t>{5});
  auto half = cast(doubles, dtypes::f16);
  ASSERT_TRUE(half.has_value());
  const std::uint16_t want[] = {0x3c01, 0x3c00, 0x7c00, 0x8000, 0x0001};
  for (int i = 0; i < 5; ++i) EXPECT_EQ(half->data<std::uint16_t>()[i], want[i]) << i;
  const std::int64_t big[] = {(1ll << 62) + (1ll << 54) + 1, (1ll << 62) + (1ll << 54),
                              -9223372036854775807 - 1, -3};
  const TensorView integers(static_cast<const void *>(big), dtypes::i64,
                            std::vector<std::int64_t>{4});
  auto brain = cast(integers, dtypes::bf16);
  const std::uint16_t brains[] = {0x5e81, 0x5e80, 0xdf00, 0xc040};
  for (int i = 0; i < 4; ++i) EXPECT_EQ(brain->data<std::uint16_t>()[i], brains[i]) << i;
  auto floats = cast(integers, dtypes::f32);
  for (int i = 0; i < 4; ++i) EXPECT_EQ(floats->data<float>()[i], static_cast<float>(big[i]));
  const std::uint64_t most[] = {~0ull};
  const TensorView top(static_cast<const void *>(most), dtypes::u64, std::vector<std::int64_t>{1});
  EXPECT_EQ(cast(top, dtypes::f32)->data<float>()[0], 0x1p64f);
  EXPECT_EQ(cast(top, dtypes::f64)->data<double>()[0], 0x1p64);
}

TEST(Cast, EveryTypeStridesAndRefusals) {
  for (DType from : test::kAllTypes)
    for (DType to : {dtypes::f64, dtypes::f32, dtypes::f16, dtypes::bf16}) {
      const Tensor array = golden(from, {4, 6});
      const std::vector<std::int64_t> shape = {6, 4}, strides = {1, 6};
      auto out = cast(TensorView(array.data(), from, shape, strides), to);
      ASSERT_TRUE(out.has_value());
      auto back = cast(*out, dtypes::f64);
      for (int i = 0; i < 24; ++i)
        EXPECT_EQ(back->data<double>()[i], test::golden_value(from, i % 4 * 6 + i / 4))
            << to_string(from) << " " << to_string(to);
    }
  auto refused = cast(golden(dtypes::f32, {2}), dtypes::i32);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, ErrorCode::dtype);
}

TEST(Png, RoundTripsAndRefuses) {
  Folder f;
  auto image = Tensor::empty(dtypes::u8, std::vector<std::int64_t>{5, 7, 3});
  for (std::int64_t i = 0; i < image->elements(); ++i)
    image->data<std::uint8_t>()[i] = static_cast<std::uint8_t>(i * 37);
  ASSERT_TRUE(write_png(f / "a.png", *image).has_value());
  expect_same(read_png(f / "a.png"), *image);
  expect_same(read_array(f / "a.png"), *image);
  const std::vector<std::int64_t> shape = {7, 5, 3}, strides = {3, 21, 1};
  const TensorView turned(image->data(), dtypes::u8, shape, strides);
  ASSERT_TRUE(write_array(f / "b.png", turned).has_value());
  expect_same(read_png(f / "b.png"), turned);

  expect_error(write_png(f / "c.png", golden(dtypes::f32, {5, 7, 3})), ErrorCode::dtype, "u8");
  expect_error(write_png(f / "c.png", golden(dtypes::u8, {5, 7, 4})), ErrorCode::shape,
               "[5, 7, 4]");
  expect_error(write_png(f / "c.png", golden(dtypes::u8, {0, 7, 3})), ErrorCode::shape,
               "[0, 7, 3]");
  expect_error(write_png(f / "c.png", golden(dtypes::u8, {21})), ErrorCode::shape, "[21]");

  const std::string good = read_bytes(f / "a.png");
  const auto with = [&](std::size_t at, char value) {
    std::string bytes = good;
    bytes[at] = value;
    write_bytes(f / "d.png", bytes);
    return read_png(f / "d.png");
  };
  expect_error(with(0, 'x'), ErrorCode::io, "not a PNG");
  expect_error(with(24, 16), ErrorCode::unsupported, "8-bit RGB");
  expect_error(with(25, 0), ErrorCode::unsupported, "8-bit RGB");
  expect_error(with(17, 127), ErrorCode::io, "impossible");
  expect_error(with(16, '\xff'), ErrorCode::io, "impossible");
  expect_error(with(30, 'x'), ErrorCode::io, "corrupt");  // CRC of the header
}

}  // namespace
}  // namespace switchyard
