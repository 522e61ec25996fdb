// SPDX-License-Identifier: Apache-2.0
#pragma once
/// UTF-8, strictly: no overlong forms, surrogates or values past U+10FFFF.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace switchyard {

/// Takes one character off the front of `text`; nullopt (and `text` unchanged) if it is malformed.
std::optional<char32_t> take_utf8(std::string_view &text) noexcept;
bool is_utf8(std::string_view text) noexcept;
/// Up to the first malformed character.
std::u32string decode_utf8(std::string_view text);
/// False for what is no character.
bool append_utf8(std::string &text, std::uint32_t character);

}  // namespace switchyard
