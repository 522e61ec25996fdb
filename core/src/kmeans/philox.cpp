// SPDX-License-Identifier: Apache-2.0
#include "kmeans/philox.hpp"

namespace switchyard::kmeans {

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) noexcept {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {
        static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
        static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key[0] += 0x9E3779B9u;
    key[1] += 0xBB67AE85u;
  }
  return counter;
}

std::uint64_t Draws::next() noexcept {
  const auto r =
      philox4x32({index_++, trial_, step_, run_},
                 {static_cast<std::uint32_t>(seed_), static_cast<std::uint32_t>(seed_ >> 32)});
  return std::uint64_t{r[0]} | std::uint64_t{r[1]} << 32;
}

std::uint64_t Draws::below(std::uint64_t n) noexcept {
  __extension__ using Wide = unsigned __int128;
  const std::uint64_t uneven = (0 - n) % n;  // 2^64 mod n
  for (;;) {
    const Wide product = static_cast<Wide>(next()) * n;
    if (static_cast<std::uint64_t>(product) >= uneven)
      return static_cast<std::uint64_t>(product >> 64);
  }
}

}  // namespace switchyard::kmeans
