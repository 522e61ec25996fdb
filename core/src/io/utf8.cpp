// SPDX-License-Identifier: Apache-2.0
#include "io/utf8.hpp"

#include <array>

namespace switchyard {

std::optional<char32_t> take_utf8(std::string_view &text) noexcept {
  if (text.empty()) return std::nullopt;
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(0);
  const std::size_t length = first < 0x80             ? 1
                             : (first & 0xe0) == 0xc0 ? 2
                             : (first & 0xf0) == 0xe0 ? 3
                             : (first & 0xf8) == 0xf0 ? 4
                                                      : 0;
  if (length == 0 || length > text.size()) return std::nullopt;
  constexpr std::array<unsigned, 5> mask = {0, 0x7f, 0x1f, 0x0f, 0x07};
  constexpr std::array<char32_t, 5> least = {0, 0, 0x80, 0x800, 0x10000};
  char32_t c = first & mask[length];
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0u) != 0x80) return std::nullopt;
    c = c << 6 | (byte(i) & 0x3fu);
  }
  if (c < least[length] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return std::nullopt;
  text.remove_prefix(length);
  return c;
}

bool is_utf8(std::string_view text) noexcept {
  while (!text.empty())
    if (!take_utf8(text)) return false;
  return true;
}

std::u32string decode_utf8(std::string_view text) {
  std::u32string out;
  while (auto c = take_utf8(text)) out.push_back(*c);
  return out;
}

bool append_utf8(std::string &text, std::uint32_t c) {
  if (c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) return false;
  const auto tail = [&](unsigned shift) {
    text.push_back(static_cast<char>(0x80 | (c >> shift & 0x3f)));
  };
  if (c < 0x80) {
    text.push_back(static_cast<char>(c));
  } else if (c < 0x800) {
    text.push_back(static_cast<char>(0xc0 | c >> 6));
    tail(0);
  } else if (c < 0x10000) {
    text.push_back(static_cast<char>(0xe0 | c >> 12));
    tail(6);
    tail(0);
  } else {
    text.push_back(static_cast<char>(0xf0 | c >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
  return true;
}

}  // namespace switchyard
