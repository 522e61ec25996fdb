// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Little-endian fields and fixed numbers of the zip format.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

namespace switchyard::zip {

inline constexpr std::uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50,
                               kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
inline constexpr std::size_t kLocalBytes = 30, kCentralBytes = 46, kEndBytes = 22, kEnd64Bytes = 56,
                             kLocatorBytes = 20;
inline constexpr std::uint16_t kStored = 0, kDeflated = 8;
inline constexpr std::uint16_t kFlagEncrypted = 1, kFlagUtf8 = 1u << 11;
inline constexpr std::uint16_t kExtra64 = 1;                 // id of the zip64 extra field
inline constexpr std::uint16_t kNoTime = 0, kNoDate = 0x21;  // 1980-01-01, the format's first day

template <class T>
T get(const std::byte *at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

/// Appends the fields in order.
template <class... T>
void put(std::string &out, T... fields) {
  (out.append(reinterpret_cast<const char *>(&fields), sizeof fields), ...);
}

}  // namespace switchyard::zip
