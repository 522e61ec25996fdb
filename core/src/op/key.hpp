// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Decision keys: plain data, built without allocation on every call.

#include <array>
#include <bit>
#include <cstdint>
#include <switchyard/tensor.hpp>

namespace switchyard {

struct Key {
  std::array<std::uint64_t, 4> words{};
  bool operator==(const Key &) const = default;

  std::uint64_t hash() const noexcept {
    std::uint64_t h = 0x9E3779B97F4A7C15ull;
    for (std::uint64_t w : words) {
      h = (h ^ w) * 0xD6E8FEB86659FD93ull;
      h ^= h >> 32;
    }
    return h;
  }
};

/// Packs small fields; 256 bits in all.
class KeyBuilder {
 public:
  explicit KeyBuilder(Key &key) noexcept : key_(key) {}
  /// `value` must fit `bits`; excess bits are cut. A field never straddles two words.
  KeyBuilder &add(std::uint64_t value, unsigned bits) noexcept {
    if (used_ + bits > 64) {
      if (word_ + 1 < key_.words.size()) ++word_;
      used_ = 0;
    }
    key_.words[word_] |= (value & ((1ull << bits) - 1)) << used_;
    used_ += bits;
    return *this;
  }
  /// Four classes an octave: 0 to 7 singly, then 8-9, 10-11, 12-13, 14-15, 16-19, ...
  KeyBuilder &size(std::int64_t n) noexcept { return add(size_class(n), 8); }
  KeyBuilder &dtype(DType t) noexcept {
    return add(t.code, 3).add(static_cast<std::uint64_t>(std::bit_width(t.bits)), 4);
  }
  /// Present?, contiguous? (Alignment is one bit for the whole call, added by core.)
  KeyBuilder &layout(const sy_tensor *t) noexcept;

  static constexpr std::uint64_t size_class(std::int64_t n) noexcept {
    if (n < 8) return n <= 0 ? 0 : static_cast<std::uint64_t>(n);
    const auto e = static_cast<unsigned>(std::bit_width(static_cast<std::uint64_t>(n))) - 1u;
    return 4 * (e - 1) + ((static_cast<std::uint64_t>(n) >> (e - 2)) & 3);
  }

 private:
  Key &key_;
  unsigned word_ = 0, used_ = 0;
};

}  // namespace switchyard
