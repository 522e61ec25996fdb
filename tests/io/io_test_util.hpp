// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Help for the file tests: a folder of their own, raw bytes, arrays with known values.

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "io/cast.hpp"
#include "switchyard/tensor.hpp"

namespace switchyard::test {

inline const std::string kGoldens = std::string(SWITCHYARD_SOURCE_DIR) + "/tests/goldens/io/";

/// A folder that goes with the object.
class Folder {
 public:
  Folder() {
    std::string name = (std::filesystem::temp_directory_path() / "switchyard-io-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) ADD_FAILURE() << "no temporary folder";
    path_ = name;
  }
  Folder(const Folder &) = delete;
  Folder &operator=(const Folder &) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string &name) const { return path_ + "/" + name; }
  const std::string &path() const { return path_; }
  std::size_t files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_),
                                                  std::filesystem::directory_iterator()));
  }

 private:
  std::string path_;
};

inline std::string read_bytes(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_bytes(const std::string &path, const std::string &bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  ASSERT_TRUE(out.good()) << path;
}

/// Element `i` of what goldens hold: i % 3 == 0 for bool, i for unsigned, i - 3 for signed types.
inline double golden_value(DType t, std::int64_t i) {
  if (t.code == SY_TYPE_BOOL) return i % 3 == 0 ? 1 : 0;
  return static_cast<double>(t.code == SY_TYPE_UINT ? i : i - 3);
}

/// An owned array with the goldens' values.
inline Tensor golden(DType t, std::vector<std::int64_t> shape) {
  auto f64 = Tensor::empty(dtypes::f64, shape);
  for (std::int64_t i = 0; i < f64->elements(); ++i) f64->data<double>()[i] = golden_value(t, i);
  if (t.code == SY_TYPE_FLOAT || t.code == SY_TYPE_BFLOAT) return *cast(*f64, t);
  auto out = Tensor::empty(t, shape);
  for (std::int64_t i = 0; i < out->elements(); ++i) {
    const auto value = static_cast<std::int64_t>(f64->data<double>()[i]);
    std::memcpy(out->data<char>() + i * size_of(t), &value, size_of(t));  // little-endian
  }
  return std::move(*out);
}

inline void expect_golden(const Result<Tensor> &got, DType t, std::vector<std::int64_t> shape) {
  ASSERT_TRUE(got.has_value()) << got.error().text();
  EXPECT_EQ(to_string(got->dtype()), to_string(t));
  EXPECT_EQ(shape_text(got->shape()), shape_text(shape));
  ASSERT_TRUE(got->view().contiguous());
  auto f64 = cast(*got, dtypes::f64);
  ASSERT_TRUE(f64.has_value());
  for (std::int64_t i = 0; i < f64->elements(); ++i)
    EXPECT_EQ(f64->data<double>()[i], golden_value(t, i)) << "element " << i;
}

inline void expect_same(const Result<Tensor> &got, const TensorView &want) {
  ASSERT_TRUE(got.has_value()) << got.error().text();
  EXPECT_EQ(to_string(got->dtype()), to_string(want.dtype()));
  ASSERT_EQ(shape_text(got->shape()), shape_text(want.shape()));
  auto copy = contiguous_copy(want);
  const auto bytes = static_cast<std::size_t>(want.elements()) * size_of(want.dtype());
  if (bytes > 0) {
    EXPECT_EQ(std::memcmp(got->data(), copy->data(), bytes), 0);
  }
}

/// The failed result's code and a part of its message.
template <class T>
void expect_error(const Result<T> &result, ErrorCode code, const std::string &part,
                  const std::string &file = "") {
  ASSERT_FALSE(result.has_value()) << "expected: " << part;
  EXPECT_EQ(to_string(result.error().code), to_string(code)) << result.error().text();
  EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().text();
  if (file.empty()) {
    EXPECT_FALSE(result.error().file.empty()) << result.error().text();
  } else {
    EXPECT_EQ(result.error().file, file);
  }
}

inline const std::vector<DType> kAllTypes = {
    dtypes::f16, dtypes::f32, dtypes::f64, dtypes::i8,  dtypes::i16, dtypes::i32,
    dtypes::i64, dtypes::u8,  dtypes::u16, dtypes::u32, dtypes::u64, dtypes::boolean};

}  // namespace switchyard::test
