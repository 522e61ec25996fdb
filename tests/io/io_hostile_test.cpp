// SPDX-License-Identifier: Apache-2.0
/// Every small file of every format, cut off at every byte and with every bit flipped: an error or
/// an array, never a crash, and never memory out of proportion to the file.
#include <sys/resource.h>

#include <fstream>

#include "io/array_file.hpp"
#include "io/gguf.hpp"
#include "io/npz.hpp"
#include "io/png.hpp"
#include "io/safetensors.hpp"
#include "io_test_util.hpp"
#include "support/sanitized.hpp"

namespace switchyard {
namespace {

using test::Folder;
using test::golden;
using test::kGoldens;
using test::read_bytes;
using test::write_bytes;

constexpr bool kLimitMemory = !SWITCHYARD_SANITIZED;  // they reserve terabytes of address space

class Hostile : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!kLimitMemory) return;
    long pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlim_t room = static_cast<rlim_t>(pages) * 4096 + (64u << 20);
    const rlimit limit = {room, room};
    ASSERT_EQ(::setrlimit(RLIMIT_AS, &limit), 0);
  }

  template <class T>
  void judge(const Result<T> &result) {
    if (result) {
      ++good_;
      return;
    }
    ++bad_;
    EXPECT_NE(to_string(result.error().code), to_string(ErrorCode::out_of_memory))
        << result.error().text();
    EXPECT_NE(to_string(result.error().code), to_string(ErrorCode::internal))
        << result.error().text();
    EXPECT_FALSE(result.error().message.empty());
  }

  void read_all(const std::string &path) {
    if (path.ends_with(".gguf")) {
      auto file = GgufReader::open(path);
      judge(file);
      if (!file) return;
      for (const GgufTensor &t : file->tensors()) {
        std::vector<std::byte> bytes(t.bytes);
        judge(file->read(t, 0, bytes));
      }
      return;
    }
    judge(read_array(path));
    if (path.ends_with(".npz")) {
      auto npz = NpzReader::open(path);
      judge(npz);
      if (!npz) return;
      for (const auto &entry : npz->entries()) {
        judge(npz->read(entry.key));
        judge(npz->read_text(entry.key));
      }
    }
    if (path.ends_with(".safetensors")) {
      auto file = SafetensorsReader::open(path);
      judge(file);
      if (!file) return;
      for (const auto &info : file->tensors()) judge(file->read(info));
    }
    if (path.ends_with(".json")) judge(SafetensorsModel::open(path));
  }

  /// `reads` good results are expected of the file as it is.
  void attack(const std::string &name, const std::string &bytes) {
    SCOPED_TRACE(name);
    const std::string path = folder_ / name;
    write_bytes(path, bytes);
    read_all(path);
    ASSERT_GT(good_, 0);
    good_ = bad_ = 0;
    for (std::size_t n = 0; n < bytes.size(); ++n) {
      write_bytes(path, bytes.substr(0, n));
      read_all(path);
    }
    EXPECT_EQ(good_, 0) << "a cut file was read";
    EXPECT_GE(bad_, static_cast<int>(bytes.size()));
    bad_ = 0;
    for (std::size_t n = 0; n < bytes.size(); ++n)
      for (int bit = 0; bit < 8; ++bit) {
        std::string flipped = bytes;
        flipped[n] = static_cast<char>(flipped[n] ^ (1 << bit));
        write_bytes(path, flipped);
        read_all(path);
      }
    EXPECT_GT(bad_, 0);
  }

  Folder folder_;
  int good_ = 0, bad_ = 0;
};

TEST_F(Hostile, Npy) {
  attack("a.npy", read_bytes(kGoldens + "c_f4.npy"));
  attack("fortran.npy", read_bytes(kGoldens + "fortran_i2_3d.npy"));
  attack("big.npy", read_bytes(kGoldens + "big_f8.npy"));
  attack("bool.npy", read_bytes(kGoldens + "c_b1.npy"));
}

TEST_F(Hostile, Npz) {
  attack("deflated.npz", read_bytes(kGoldens + "deflated.npz"));
  auto npz = NpzWriter::create(folder_ / "a.npz", {.zip64_from = 0});
  ASSERT_TRUE(npz->add("a", golden(dtypes::f32, {3})).has_value());
  ASSERT_TRUE(npz->add_text("meta", "{}").has_value());
  ASSERT_TRUE(npz->finish().has_value());
  attack("wide.npz", read_bytes(folder_ / "a.npz"));
}

TEST_F(Hostile, Safetensors) {
  attack("a.safetensors", read_bytes(kGoldens + "small.safetensors"));
  attack("model.safetensors.index.json", R"({"weight_map": {"step": "a.safetensors"}})");
}

TEST_F(Hostile, Gguf) {
  const std::vector<GgufEntry> entries = {{"general.name", GgufValue::of_text("x")},
                                          {"n", GgufValue::of_u32(3)}};
  const std::vector<GgufSpec> specs = {{"a", find_ggml_type("Q4_0"), {2, 32}},
                                       {"b", find_ggml_type(dtypes::f32), {8}}};
  auto layout = gguf_layout("a.gguf", entries, specs);
  ASSERT_TRUE(layout.has_value());
  // Without the padding at the end, which may be missing.
  std::string bytes = layout->header;
  bytes.resize(layout->offsets[1] + 32, 'x');
  attack("a.gguf", bytes);
}

TEST_F(Hostile, Png) {
  auto image = Tensor::zeros(dtypes::u8, std::vector<std::int64_t>{3, 4, 3});
  ASSERT_TRUE(write_png(folder_ / "b.png", *image).has_value());
  attack("a.png", read_bytes(folder_ / "b.png"));
}

}  // namespace
}  // namespace switchyard
