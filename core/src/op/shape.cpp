// SPDX-License-Identifier: Apache-2.0
#include "op/shape.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>

#include "base/suggest.hpp"

namespace switchyard {
namespace {

bool valid_name(std::string_view s) {
  return !s.empty() && std::all_of(s.begin(), s.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

std::optional<double> to_double(std::string_view s) {
  double value = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value);
  if (error != std::errc{} || end != s.data() + s.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

/// "1000", "1e6", "64k", "2M", "1G" (powers of ten for letters, as people write sizes of data).
std::optional<std::int64_t> to_integer(std::string_view s) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value);
  if (error == std::errc{} && end == s.data() + s.size()) return value;
  double factor = 1;
  if (!s.empty()) {
    switch (s.back()) {
      case 'k':
        factor = 1e3;
        break;
      case 'M':
        factor = 1e6;
        break;
      case 'G':
        factor = 1e9;
        break;
      default:
        break;
    }
    if (factor != 1) s.remove_suffix(1);
  }
  const auto d = to_double(s);
  if (!d) return std::nullopt;
  const double scaled = *d * factor;
  if (scaled != std::floor(scaled) || std::abs(scaled) > 9e18) return std::nullopt;
  return static_cast<std::int64_t>(scaled);
}

}  // namespace

Result<Shape> Shape::parse(std::string_view text) {
  Shape shape;
  while (!text.empty()) {
    const auto comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    if (item.empty()) continue;
    const auto equals = item.find('=');
    if (equals == std::string_view::npos || !valid_name(item.substr(0, equals)))
      return fail(
          ErrorCode::usage,
          fmt::format(
              "'{}' is not part of a shape; write name=value,name=value, such as n=1000,d=16",
              item));
    const auto name = item.substr(0, equals);
    if (shape.find(name) != nullptr)
      return fail(ErrorCode::usage, fmt::format("'{}' is given twice in the shape", name));
    shape.items_.emplace_back(name, item.substr(equals + 1));
  }
  return shape;
}

std::string Shape::text() const {
  std::string out;
  for (const auto &[name, value] : items_) {
    if (!out.empty()) out += ',';
    out += name + '=' + value;
  }
  return out;
}

const std::string *Shape::find(std::string_view name) const noexcept {
  for (const auto &[n, value] : items_)
    if (n == name) return &value;
  return nullptr;
}

Shape &Shape::set(std::string_view name, std::string value) {
  for (auto &[n, v] : items_)
    if (n == name) {
      v = std::move(value);
      return *this;
    }
  items_.emplace_back(name, std::move(value));
  return *this;
}

Shape &Shape::set(std::string_view name, std::int64_t value) {
  return set(name, std::to_string(value));
}

Result<std::int64_t> Shape::integer(std::string_view name, std::int64_t fallback, std::int64_t low,
                                    std::int64_t high) const {
  const std::string *text = find(name);
  if (text == nullptr) return fallback;
  const auto value = to_integer(*text);
  if (!value) return fail(ErrorCode::usage, fmt::format("{}={} is not an integer", name, *text));
  if (*value < low || *value > high)
    return fail(ErrorCode::usage,
                fmt::format("{}={} is out of range; it must be {} to {}", name, *text, low, high));
  return *value;
}

Result<double> Shape::number(std::string_view name, double fallback) const {
  const std::string *text = find(name);
  if (text == nullptr) return fallback;
  const auto value = to_double(*text);
  if (!value) return fail(ErrorCode::usage, fmt::format("{}={} is not a number", name, *text));
  return *value;
}

Result<bool> Shape::flag(std::string_view name, bool fallback) const {
  const std::string *text = find(name);
  if (text == nullptr) return fallback;
  if (*text == "1" || *text == "true" || *text == "yes") return true;
  if (*text == "0" || *text == "false" || *text == "no") return false;
  return fail(ErrorCode::usage, fmt::format("{}={} is neither true nor false", name, *text));
}

Result<DType> Shape::dtype(std::string_view name, DType fallback) const {
  const std::string *text = find(name);
  return text == nullptr ? Result<DType>(fallback) : parse_dtype(*text);
}

std::string Shape::word(std::string_view name, std::string_view fallback) const {
  const std::string *text = find(name);
  return text == nullptr ? std::string(fallback) : *text;
}

Status Shape::only(std::span<const std::string_view> known) const {
  for (const auto &[name, value] : items_)
    if (std::find(known.begin(), known.end(), name) == known.end())
      return fail(ErrorCode::usage,
                  fmt::format("unknown item '{}' in the shape{}; known are {}", name,
                              did_you_mean(name, known), fmt::join(known, ", ")));
  return {};
}

}  // namespace switchyard
