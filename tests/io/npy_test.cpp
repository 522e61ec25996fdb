// SPDX-License-Identifier: Apache-2.0
#include "io/npy.hpp"

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

struct NumpyName {
  const char *name;
  DType dtype;
};
const NumpyName kNames[] = {{"f2", dtypes::f16}, {"f4", dtypes::f32}, {"f8", dtypes::f64},
                            {"i1", dtypes::i8},  {"i2", dtypes::i16}, {"i4", dtypes::i32},
                            {"i8", dtypes::i64}, {"u1", dtypes::u8},  {"u2", dtypes::u16},
                            {"u4", dtypes::u32}, {"u8", dtypes::u64}, {"b1", dtypes::boolean}};

/// A .npy file with any header text.
std::string npy(const std::string &header, const std::string &data, int version = 1) {
  std::string out = "\x93NUMPY";
  out += {static_cast<char>(version), '\0'};
  const auto n = static_cast<std::uint32_t>(header.size());
  out.append(reinterpret_cast<const char *>(&n), version == 1 ? 2 : 4);
  return out + header + data;
}
std::string dict(const std::string &descr, const std::string &shape,
                 const std::string &fortran = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }\n";
}

TEST(Npy, ReadsEveryTypeOfNumpy) {
  for (const auto &[name, dtype] : kNames) {
    SCOPED_TRACE(name);
    expect_golden(read_npy(kGoldens + "c_" + name + ".npy"), dtype, {2, 3});
  }
}

TEST(Npy, WritesWhatNumpyWritesByteForByte) {
  Folder f;
  const auto check = [&](const std::string &name, DType dtype, std::vector<std::int64_t> shape) {
    SCOPED_TRACE(name);
    ASSERT_TRUE(write_npy(f / "a.npy", golden(dtype, shape)).has_value());
    EXPECT_EQ(read_bytes(f / "a.npy"), read_bytes(kGoldens + name));
  };
  for (const auto &[name, dtype] : kNames) check(std::string("c_") + name + ".npy", dtype, {2, 3});
  check("scalar_f4.npy", dtypes::f32, {});
  check("empty_f4.npy", dtypes::f32, {0, 3});
  check("empty_3d_i8.npy", dtypes::i64, {2, 0, 3});
  check("vector_u1.npy", dtypes::u8, {7});
}

TEST(Npy, ReadsBigEndian) {
  for (const auto &[name, dtype] : kNames)
    if (std::filesystem::exists(kGoldens + "big_" + name + ".npy"))
      expect_golden(read_npy(kGoldens + "big_" + name + ".npy"), dtype, {2, 3});
}

TEST(Npy, ReadsFortranOrder) {
  expect_golden(read_npy(kGoldens + "fortran_f4.npy"), dtypes::f32, {3, 5});
  expect_golden(read_npy(kGoldens + "fortran_i2_3d.npy"), dtypes::i16, {2, 3, 4});
  expect_golden(read_npy(kGoldens + "fortran_big_f8.npy"), dtypes::f64, {4, 3});
  expect_golden(read_npy(kGoldens + "fortran_vector_i4.npy"), dtypes::i32, {5});
}

TEST(Npy, ReadsVersionsScalarsAndEmptyArrays) {
  expect_golden(read_npy(kGoldens + "version2_f4.npy"), dtypes::f32, {2, 3});
  expect_golden(read_npy(kGoldens + "version3_f4.npy"), dtypes::f32, {2, 3});
  expect_golden(read_npy(kGoldens + "scalar_f4.npy"), dtypes::f32, {});
  expect_golden(read_npy(kGoldens + "empty_f4.npy"), dtypes::f32, {0, 3});
  expect_golden(read_npy(kGoldens + "empty_3d_i8.npy"), dtypes::i64, {2, 0, 3});
}

/// Tiles: more rows and columns than one holds, tails, a short first axis.
TEST(Npy, ReadsLargeFortranOrder) {
  Folder f;
  for (const auto &shape : {std::vector<std::int64_t>{20'001, 67}, {3, 50'021}, {5, 7, 3001}}) {
    SCOPED_TRACE(shape_text(shape));
    std::int64_t elements = 1;
    for (std::int64_t n : shape) elements *= n;
    std::vector<std::int32_t> data(static_cast<std::size_t>(elements));
    // Position p of the file holds the C index of its element.
    std::vector<std::int64_t> index(shape.size());
    for (auto &value : data) {
      std::int64_t c = 0;
      for (std::size_t axis = 0; axis < shape.size(); ++axis) c = c * shape[axis] + index[axis];
      value = static_cast<std::int32_t>(c);
      for (std::size_t axis = 0; axis < shape.size() && ++index[axis] == shape[axis]; ++axis)
        index[axis] = 0;
    }
    std::string text = "(";
    for (std::int64_t n : shape) text += std::to_string(n) + ", ";
    write_bytes(f / "a.npy",
                npy(dict("<i4", text + ")", "True"),
                    std::string(reinterpret_cast<char *>(data.data()), data.size() * 4)));
    auto got = read_npy(f / "a.npy");
    ASSERT_TRUE(got.has_value()) << got.error().text();
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < elements; ++i) wrong += got->data<std::int32_t>()[i] != i;
    EXPECT_EQ(wrong, 0);
  }
}

TEST(Npy, WritesStridedViews) {
  Folder f;
  const Tensor array = golden(dtypes::i16, {300, 400, 3});
  const std::vector<std::int64_t> shape = {400, 3, 300}, strides = {3, 1, 1200};
  const TensorView turned(array.data(), dtypes::i16, shape, strides);
  ASSERT_TRUE(write_npy(f / "a.npy", turned).has_value());
  auto got = read_npy(f / "a.npy");
  expect_same(got, turned);
  EXPECT_EQ(got->data<std::int16_t>()[1], array.data<std::int16_t>()[1200]);
  // Backwards.
  const std::vector<std::int64_t> one = {900}, back = {-1};
  const TensorView reversed(array.data<std::int16_t>() + 899, dtypes::i16, one, back);
  ASSERT_TRUE(write_npy(f / "b.npy", reversed).has_value());
  auto b = read_npy(f / "b.npy");
  ASSERT_TRUE(b.has_value());
  EXPECT_EQ(b->data<std::int16_t>()[0], array.data<std::int16_t>()[899]);
  EXPECT_EQ(b->data<std::int16_t>()[899], array.data<std::int16_t>()[0]);
}

TEST(Npy, RoundTripsShapes) {
  Folder f;
  for (const auto &shape : {std::vector<std::int64_t>{},
                            {0},
                            {1},
                            {5},
                            {1, 1, 1, 1, 1, 1, 1, 2},
                            {3, 0},
                            {123456, 2}}) {
    const Tensor array = golden(dtypes::f32, shape);
    ASSERT_TRUE(write_npy(f / "a.npy", array).has_value());
    EXPECT_EQ(read_bytes(f / "a.npy").size(), 128 + 4 * static_cast<std::size_t>(array.elements()));
    expect_same(read_npy(f / "a.npy"), array);
  }
}

TEST(Npy, HasNoBf16) {
  Folder f;
  expect_error(write_npy(f / "a.npy", golden(dtypes::bf16, {2})), ErrorCode::dtype, "safetensors");
  EXPECT_EQ(f.files(), 0u);
}

TEST(Npy, SaysWhatItHoldsInstead) {
  expect_error(read_npy(kGoldens + "complex.npy"), ErrorCode::dtype, "complex");
  expect_error(read_npy(kGoldens + "text.npy"), ErrorCode::dtype, "text");
  expect_error(read_npy(kGoldens + "objects.npy"), ErrorCode::dtype, "objects");
  expect_error(read_npy(kGoldens + "records.npy"), ErrorCode::dtype, "records");
  expect_error(read_npy(kGoldens + "dates.npy"), ErrorCode::dtype, "dates");
}

TEST(Npy, RefusesHostileHeaders) {
  Folder f;
  const std::string data(24, 'x'), path = f / "a.npy";
  const auto refused = [&](const std::string &bytes, ErrorCode code, const std::string &part) {
    SCOPED_TRACE(part);
    write_bytes(path, bytes);
    expect_error(read_npy(path), code, part, path);
  };
  const auto header = [&](const std::string &text) { return npy(text, data); };
  refused("", ErrorCode::io, "too short");
  refused("not an array at all", ErrorCode::io, "does not begin with");
  refused(npy(dict("<f4", "(6,)"), data, 4), ErrorCode::io, "version 4");
  refused(header(dict("<f4", "(-6,)")), ErrorCode::io, "negative");
  refused(header(dict("<f4", "(2, -3)")), ErrorCode::io, "negative");
  refused(header(dict("<f4", "(9223372036854775808,)")), ErrorCode::io, "below 2^63");
  refused(header(dict("<f4", "(99999999999999999999999,)")), ErrorCode::io, "below 2^63");
  refused(header(dict("<f4", "(9223372036854775807,)")), ErrorCode::io, "overflows");
  refused(header(dict("<f4", "(4294967296, 4294967296)")), ErrorCode::io, "overflows");
  refused(header(dict("<f4", "(0, 9223372036854775807)")), ErrorCode::io, "overflows");
  refused(header(dict("<f4", "(2305843009213693951,)")), ErrorCode::io, "truncated");
  refused(header(dict("<f4", "(1, 1, 1, 1, 1, 1, 1, 1, 6)")), ErrorCode::shape, "8 dimensions");
  refused(header(dict("<f4", "(7,)")), ErrorCode::io, "truncated");
  refused(header(dict("<f4", "(5,)")), ErrorCode::io, "4 bytes follow");
  refused(header(dict("<f4", "(6,) 7")), ErrorCode::io, "expected");
  refused(header(dict("<f4", "(6 6)")), ErrorCode::io, "expected");
  refused(header(dict("<f4", "[6]")), ErrorCode::io, "not a tuple");
  refused(header(dict("<f4", "(6.0,)")), ErrorCode::io, "expected");
  refused(header(dict("f4", "(6,)")), ErrorCode::io, "byte order");
  refused(header(dict("<f16", "(1,)")), ErrorCode::dtype, "not supported");
  refused(header(dict("<f4294967300", "(1,)")), ErrorCode::dtype, "not supported");
  refused(header(dict("<q4", "(6,)")), ErrorCode::dtype, "not supported");
  refused(header(dict("", "(6,)")), ErrorCode::io, "dtype is empty");
  refused(header(dict("<f4", "(6,)", "true")), ErrorCode::io, "True or False");
  refused(header("{'descr': '<f4', 'shape': (6,), }"), ErrorCode::io, "not all there");
  refused(header("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,)}"),
          ErrorCode::io, "twice");
  refused(header("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'x': 1}"), ErrorCode::io,
          "unknown key 'x'");
  refused(header(dict("<f4", "(6,)") + "__import__('os')"), ErrorCode::io, "after the closing");
  refused(header("{'descr': '<f4"), ErrorCode::io, "quoted string");
  refused(header("{"), ErrorCode::io, "quoted key");
  refused(header(""), ErrorCode::io, "'{' expected");
  refused(header(std::string(60'000, '(')), ErrorCode::io, "'{' expected");
  std::string huge = npy(dict("<f4", "(6,)"), data, 2);
  huge.replace(8, 4, "\xff\xff\xff\xff");
  refused(huge, ErrorCode::io, "impossible");
  refused(npy(std::string((1 << 20) + 1, ' '), data, 2), ErrorCode::io, "impossible");
  refused(npy(dict("|b1", "(24,)"), data), ErrorCode::io, "not a bool");
}

TEST(Npy, AcceptsHarmlessVariants) {
  Folder f;
  const std::string data(24, '\0');
  for (const std::string &header :
       {dict("<f4", "(6L,)"),
        std::string("{\"shape\":(6,),\"fortran_order\":False,\"descr\":\"<f4\"}"),
        dict("=f4", "(6,)"), dict("<f4", "(2,3)", "True")}) {
    SCOPED_TRACE(header);
    write_bytes(f / "a.npy", npy(header, data));
    EXPECT_TRUE(read_npy(f / "a.npy").has_value()) << read_npy(f / "a.npy").error().text();
  }
}

}  // namespace
}  // namespace switchyard
