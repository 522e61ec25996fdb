// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <switchyard/result.hpp>
#include <utility>

/// Assigns a Result's value, or leaves the function with its error.
#define SY_READ(target, result)                                  \
  do {                                                           \
    auto read_ = (result);                                       \
    if (!read_) return tl::unexpected(std::move(read_.error())); \
    target = static_cast<decltype(target)>(*read_);              \
  } while (0)
