// SPDX-License-Identifier: Apache-2.0
// Bytes equal to those of the formats' owners (tests/goldens/quantize/generate.py).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "io/npz.hpp"
#include "kernels.hpp"
#include "ops/quantize_formats.hpp"

namespace switchyard::test {
namespace {

std::string golden(std::string_view name) {
  return fmt::format("{}/tests/goldens/quantize/{}.npz", SWITCHYARD_SOURCE_DIR, name);
}

/// ".npy" has no bf16: such arrays are stored as their bits.
TensorView as(const Tensor &t, std::string_view dtype) {
  sy_tensor raw = t.view().raw();
  if (dtype == "bf16" && same(raw.dtype, dtypes::u16)) raw.dtype = dtypes::bf16;
  return TensorView(raw);
}

std::vector<std::string> split(std::string_view text) {
  std::vector<std::string> parts{""};
  for (char c : text)
    if (c == '.')
      parts.emplace_back();
    else
      parts.back() += c;
  return parts;
}

class Goldens : public testing::Test {
 protected:
  Tensor read(const NpzReader &file, const std::string &key) {
    auto t = file.read(key);
    EXPECT_TRUE(t) << key << ": " << (t ? "" : t.error().text());
    return t ? std::move(*t) : Tensor();
  }
  int check_blocks(std::string_view file);
};

/// The checks made of one owner's file.
int Goldens::check_blocks(std::string_view file) {
  auto values = NpzReader::open(golden("values")), ggml = NpzReader::open(golden(file));
  EXPECT_TRUE(values && ggml);
  if (!values || !ggml) return 0;
  int checks = 0;
  for (const auto &entry : ggml->entries()) {
    const auto parts = split(entry.key);  // format, data, dtype, what
    if (parts[3] != "blocks") continue;
    const Tensor x = read(*values, fmt::format("x.{}.{}", parts[1], parts[2]));
    const Tensor want = read(*ggml, entry.key);
    const auto params = params_of((*parse_quant_format(parts[0]))->id);
    for (const Backend &backend : backends()) {
      const Arrays got = quantize(backend, as(x, parts[2]), params);
      EXPECT_EQ(got.status, SY_OK) << entry.key << ": " << got.error.message;
      EXPECT_TRUE(std::ranges::equal(got.codes.shape(), want.shape())) << entry.key;
      EXPECT_TRUE(bytes_of(got.codes) == bytes_of(want)) << entry.key << " on " << backend.name;
      ++checks;
    }
    if (parts[2] != "f32") continue;
    const Tensor y = read(*ggml, fmt::format("{}.{}.f32.y", parts[0], parts[1]));
    for (const Backend &backend : backends()) {
      const Arrays arrays{Tensor::adopt(want, nullptr), {}, {}};
      const Tensor got = dequantize(backend, arrays, params, x.shape(), dtypes::f32);
      // gguf multiplies the same two numbers; a zero's sign may differ where it adds the offset.
      for (std::int64_t i = 0; i < got.elements(); ++i)
        if (got.data<float>()[i] != y.data<float>()[i]) {
          ADD_FAILURE() << entry.key << " on " << backend.name << ", value " << i;
          break;
        }
      ++checks;
    }
  }
  return checks;
}

TEST_F(Goldens, BlocksEqualGguf) { EXPECT_GE(check_blocks("ggml"), 7 * 9 * 3); }
TEST_F(Goldens, BlocksEqualGgml) { EXPECT_GE(check_blocks("ggml_c"), 4 * 9 * 3); }

TEST_F(Goldens, AffineEqualsMlx) {
  auto values = NpzReader::open(golden("values")), mlx = NpzReader::open(golden("mlx"));
  ASSERT_TRUE(values && mlx);
  int checks = 0;
  for (const auto &entry : mlx->entries()) {
    const auto parts = split(entry.key);  // bits, group, data, dtype, what
    if (parts[4] != "codes") continue;
    const std::string base = entry.key.substr(0, entry.key.size() - 5);
    const Tensor x = read(*values, fmt::format("x.{}.{}", parts[2], parts[3]));
    const Tensor codes = read(*mlx, base + "codes"), scales = read(*mlx, base + "scales"),
                 biases = read(*mlx, base + "biases");
    const auto format = parse_quant_format("mlx_affine" + parts[0]);
    ASSERT_TRUE(format);
    const auto params = params_of((*format)->id, static_cast<std::uint32_t>(std::stoi(parts[1])));
    for (const Backend &backend : backends()) {
      const Arrays got = quantize(backend, as(x, parts[3]), params);
      ASSERT_EQ(got.status, SY_OK) << entry.key << ": " << got.error.message;
      EXPECT_TRUE(bytes_of(got.codes) == bytes_of(codes)) << entry.key << " on " << backend.name;
      EXPECT_TRUE(bytes_of(got.scales) == bytes_of(scales)) << entry.key << " on " << backend.name;
      EXPECT_TRUE(bytes_of(got.biases) == bytes_of(biases)) << entry.key << " on " << backend.name;
      ++checks;
      if (!mlx->has(base + "y")) continue;
      const Tensor y = read(*mlx, base + "y");
      const Tensor back = dequantize(backend, got, params, x.shape(), as(x, parts[3]).dtype());
      EXPECT_TRUE(bytes_of(back) == bytes_of(y)) << base << "y on " << backend.name;
    }
  }
  EXPECT_GE(checks, 6 * 3 * 5 * 3);
}

TEST_F(Goldens, Mxfp4EqualsMlx) {
  auto values = NpzReader::open(golden("values")), mlx = NpzReader::open(golden("mxfp4"));
  ASSERT_TRUE(values && mlx);
  int checks = 0;
  for (const auto &entry : mlx->entries()) {
    const auto parts = split(entry.key);  // data, dtype, what
    if (parts[2] != "codes") continue;
    const std::string base = fmt::format("{}.{}.", parts[0], parts[1]);
    const Tensor x = read(*values, "x." + base.substr(0, base.size() - 1));
    const Tensor codes = read(*mlx, base + "codes"), scales = read(*mlx, base + "scales");
    for (const Backend &backend : backends()) {
      const Arrays got = quantize(backend, as(x, parts[1]), params_of(SY_QUANT_MXFP4));
      ASSERT_EQ(got.status, SY_OK) << entry.key << ": " << got.error.message;
      EXPECT_TRUE(bytes_of(got.codes) == bytes_of(codes)) << entry.key << " on " << backend.name;
      EXPECT_TRUE(bytes_of(got.scales) == bytes_of(scales)) << entry.key << " on " << backend.name;
      ++checks;
    }
  }
  EXPECT_GE(checks, 3 * 6);
}

}  // namespace
}  // namespace switchyard::test
