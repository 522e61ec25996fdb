// SPDX-License-Identifier: Apache-2.0
// Answers of PyTorch in f64 (tests/goldens/attention/generate.py).
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <set>

#include "io/cast.hpp"
#include "io/npz.hpp"
#include "kernels.hpp"

namespace switchyard::test {
namespace {

class Goldens : public testing::Test {
 protected:
  Goldens()
      : file(NpzReader::open(SWITCHYARD_SOURCE_DIR "/tests/goldens/attention/attention.npz")) {}

  void SetUp() override { ASSERT_TRUE(file) << file.error().text(); }

  std::set<std::string> names() const {
    std::set<std::string> out;
    for (const auto &entry : file->entries())
      if (entry.key.find('.') != std::string::npos)
        out.insert(entry.key.substr(0, entry.key.find('.')));
    return out;
  }
  bool has(const std::string &key) const {
    for (const auto &entry : file->entries())
      if (entry.key == key) return true;
    return false;
  }
  Tensor read(const std::string &key) {
    auto t = file->read(key);
    EXPECT_TRUE(t) << key << ": " << (t ? "" : t.error().text());
    return t ? std::move(*t) : Tensor();
  }
  /// ".npy" has no bf16: such arrays are stored as their bits.
  static TensorView values(const Tensor &t) {
    sy_tensor raw = t.view().raw();
    if (same(raw.dtype, dtypes::u16)) raw.dtype = dtypes::bf16;
    return TensorView(raw);
  }

  Result<NpzReader> file;
};

double limit_of(DType dtype) {
  return same(dtype, dtypes::f32) ? 4e-6 : same(dtype, dtypes::f16) ? 1e-3 : 8e-3;
}

TEST_F(Goldens, EveryKernelAgreesWithTorch) {
  std::vector<Kernel> all = kernels();
  all.push_back(reference());
  int checks = 0;
  for (const std::string &name : names()) {
    const Tensor q = read(name + ".q"), k = read(name + ".k"), v = read(name + ".v"),
                 p = read(name + ".params"), want = read(name + ".o"), lse = read(name + ".lse");
    const Tensor mask = has(name + ".mask") ? read(name + ".mask") : Tensor();
    const Tensor sinks = has(name + ".sinks") ? read(name + ".sinks") : Tensor();
    const auto *numbers = p.data<double>();
    sy_attention_params params{};
    params.causal = static_cast<std::uint32_t>(numbers[0]);
    params.window_left = static_cast<std::int64_t>(numbers[1]);
    params.window_right = static_cast<std::int64_t>(numbers[2]);
    params.softcap = static_cast<float>(numbers[3]);
    params.scale = static_cast<float>(numbers[4]);
    CallFrame frame(SY_ATTENTION_INPUTS, SY_ATTENTION_OUTPUTS);
    frame.params(params);
    frame.input(SY_ATTENTION_IN_Q, values(q));
    frame.input(SY_ATTENTION_IN_K, values(k));
    frame.input(SY_ATTENTION_IN_V, values(v));
    if (mask.present()) {  // stored as [1, 1 or heads, lq, lkv]
      sy_tensor raw = mask.view().raw();
      raw.strides[0] = 0;
      if (raw.shape[1] == 1) raw.strides[1] = 0;
      raw.shape[1] = want.shape()[1];
      frame.input(SY_ATTENTION_IN_MASK, TensorView(raw));
    }
    frame.input(SY_ATTENTION_IN_SINKS, sinks);
    const DType dtype = values(q).dtype();
    Tensor o = *Tensor::empty(dtype, want.shape()), l = *Tensor::empty(dtypes::f32, lse.shape());
    frame.output(SY_ATTENTION_OUT_O, o);
    frame.output(SY_ATTENTION_OUT_LSE, l);
    const Status valid = attention_spec().validate(frame.call());
    ASSERT_TRUE(valid) << name << ": " << valid.error().text();
    for (const Kernel &kernel : all) {
      if (!kernel.supports(frame.call())) continue;
      ASSERT_EQ(kernel.run(frame.call()), SY_OK) << name;
      const Tensor got = *cast(o, dtypes::f64);
      // Values are of size 1, so the bound relative to sum p |v| is at most a few times this.
      for (std::int64_t i = 0; i < want.elements(); ++i)
        ASSERT_NEAR(got.data<double>()[i], want.data<double>()[i], 3 * limit_of(dtype))
            << name << "[" << i << "] " << kernel.name;
      for (std::int64_t i = 0; i < lse.elements(); ++i) {
        const double x = lse.data<double>()[i];
        if (std::isinf(x))
          ASSERT_EQ(static_cast<double>(l.data<float>()[i]), x) << name << " " << kernel.name;
        else
          ASSERT_NEAR(l.data<float>()[i], x, 2e-6 * (1 + std::abs(x)))
              << name << " " << kernel.name;
      }
      ++checks;
    }
  }
  EXPECT_GE(checks, 18);
}

}  // namespace
}  // namespace switchyard::test
