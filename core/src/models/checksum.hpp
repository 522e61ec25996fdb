// SPDX-License-Identifier: Apache-2.0
#pragma once
/// XXH3 (64 bits) of bytes that come in pieces.

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace switchyard::models {

class Checksum {
 public:
  Checksum();
  void add(std::span<const std::byte> bytes) noexcept;
  std::string text() const;  ///< 16 hexadecimal digits
 private:
  struct Free {
    void operator()(void *state) const noexcept;
  };
  std::unique_ptr<void, Free> state_;
};

std::string checksum_of(std::string_view text);

}  // namespace switchyard::models
