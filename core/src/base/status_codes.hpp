// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Between the C ABI's sy_status / sy_error and the core's Error.

#include <switchyard/plugin.h>
#include <switchyard/result.hpp>

namespace switchyard {

ErrorCode from_status(std::int32_t status) noexcept;
std::int32_t to_status(ErrorCode code) noexcept;

/// An Error from what a plugin reported; `who` names the kernel or plugin.
Error from_abi(const sy_error &error, std::int32_t status, std::string_view who);
/// Writes into the caller's sy_error, as far as its struct_size reaches. Null is fine.
void to_abi(const Error &error, sy_error *out) noexcept;

/// A zeroed sy_error ready to be handed to a plugin.
inline sy_error make_abi_error() noexcept {
  sy_error e{};
  e.struct_size = sizeof(sy_error);
  e.index = -1;
  return e;
}

}  // namespace switchyard
