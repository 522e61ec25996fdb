// SPDX-License-Identifier: Apache-2.0
#include "models/checksum.hpp"

#include <fmt/format.h>
#include <xxhash.h>

#include <new>

namespace switchyard::models {
namespace {

XXH3_state_t *state_of(void *state) noexcept { return static_cast<XXH3_state_t *>(state); }

}  // namespace

void Checksum::Free::operator()(void *state) const noexcept { XXH3_freeState(state_of(state)); }

Checksum::Checksum() : state_(XXH3_createState()) {
  if (!state_) throw std::bad_alloc();
  XXH3_64bits_reset(state_of(state_.get()));
}

void Checksum::add(std::span<const std::byte> bytes) noexcept {
  XXH3_64bits_update(state_of(state_.get()), bytes.data(), bytes.size());
}

std::string Checksum::text() const {
  return fmt::format("{:016x}", XXH3_64bits_digest(state_of(state_.get())));
}

std::string checksum_of(std::string_view text) {
  return fmt::format("{:016x}", XXH3_64bits(text.data(), text.size()));
}

}  // namespace switchyard::models
