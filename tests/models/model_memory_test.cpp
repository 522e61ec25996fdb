// SPDX-License-Identifier: Apache-2.0
/// Resident memory while a checkpoint far larger than it is converted. The input is sparse: zeros
/// that take no space. SWITCHYARD_BIG_TESTS=1: 20 GiB under 2 GiB.
#include <sys/resource.h>

#include "cli/cli_test_util.hpp"
#include "support/sanitized.hpp"

namespace switchyard::test {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

class Memory : public Cli {
 protected:
  /// A model of these bf16 matrices, all zeros.
  void sparse(const std::string &name, const std::vector<std::vector<std::int64_t>> &shapes) {
    Json header;
    std::uint64_t at = 0;
    for (std::size_t i = 0; i < shapes.size(); ++i) {
      std::uint64_t bytes = 2;
      for (std::int64_t n : shapes[i]) bytes *= static_cast<std::uint64_t>(n);
      header["layer." + std::to_string(i) + ".weight"] = {
          {"dtype", "BF16"}, {"shape", shapes[i]}, {"data_offsets", {at, at + bytes}}};
      at += bytes;
    }
    const std::string json = header.dump();
    const std::uint64_t length = json.size();
    std::string head(reinterpret_cast<const char *>(&length), sizeof length);
    text(name, head + json);
    fs::resize_file(scratch / name, head.size() + json.size() + at);
  }

  /// Runs the program; the largest resident size in bytes.
  std::uint64_t resident(std::vector<std::string> words) {
    words.insert(words.begin(), program());
    const pid_t pid = start(words);
    int status = 0;
    rusage usage{};
    EXPECT_EQ(::wait4(pid, &status, 0, &usage), pid);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << slurp(scratch / ".stderr");
    return static_cast<std::uint64_t>(usage.ru_maxrss) * 1024;
  }
};

TEST_F(Memory, StaysBoundedWhateverTheSize) {
  if (SWITCHYARD_SANITIZED) GTEST_SKIP() << "sanitizers keep memory of their own";
  const bool big = std::getenv("SWITCHYARD_BIG_TESTS") != nullptr;
  // One tensor is most of the file, and one has rows longer than a piece.
  const std::int64_t scale = big ? 20 : 1;
  sparse("model.safetensors",
         {{scale * 81'920, 4'096}, {1, scale * 100'000'000 / 256 * 256}, {4'096, 4'096}});
  EXPECT_GE(fs::file_size(scratch / "model.safetensors"),
            static_cast<std::uint64_t>(scale) * 8 / 10 * kGiB);
  const std::uint64_t limit = big ? 2 * kGiB : kGiB / 2;
  const auto all =
      resident({"quantize", "model.safetensors", "out.gguf", "--recipe", "SPEED_4BIT"});
  EXPECT_LT(all, limit);
  RecordProperty("resident_mib", std::to_string(all >> 20));
  EXPECT_LT(resident({"dequantize", "out.gguf", "back.safetensors", "--dtype", "bf16"}), limit);
}

}  // namespace
}  // namespace switchyard::test
