// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <switchyard/plugin.h>

#include <cstdint>
#include <string>
#include <utility>

namespace switchyard::cpu {

/// Why something did not work; SY_OK while all is well. The first failure is the one that counts.
struct FirstFailure {
  std::int32_t code = SY_OK;
  std::string text;
  std::int64_t index = -1;

  bool any() const { return code != SY_OK; }
  void set(std::int32_t status, std::string why, std::int64_t at = -1) {
    if (any()) return;
    code = status;
    text = std::move(why);
    index = at;
  }
};

}  // namespace switchyard::cpu
