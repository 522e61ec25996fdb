// SPDX-License-Identifier: Apache-2.0
#pragma once
/// A problem described in one line, "n=100000,d=128,k=1024,dtype=f32": what the command line, the
/// worker, stored verdicts, benchmarks and reproducers all speak.

#include <string>
#include <switchyard/result.hpp>
#include <switchyard/tensor.hpp>
#include <utility>
#include <vector>

namespace switchyard {

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::pair<std::string, std::string>> items) : items_(items) {}

  /// Names are [a-z_][a-z0-9_]*; a repeated name or a missing '=' is a usage error.
  static Result<Shape> parse(std::string_view text);
  std::string text() const;

  const std::string *find(std::string_view name) const noexcept;
  Shape &set(std::string_view name, std::string value);
  Shape &set(std::string_view name, std::int64_t value);

  /// Integers accept 1e6 and 64k forms; absent gives the fallback; out of [low, high] is an error.
  Result<std::int64_t> integer(std::string_view name, std::int64_t fallback, std::int64_t low,
                               std::int64_t high) const;
  Result<double> number(std::string_view name, double fallback) const;
  Result<bool> flag(std::string_view name, bool fallback) const;
  Result<DType> dtype(std::string_view name, DType fallback) const;
  std::string word(std::string_view name, std::string_view fallback) const;
  /// An error naming the first item that is not in `known`, with "did you mean".
  Status only(std::span<const std::string_view> known) const;

  const std::vector<std::pair<std::string, std::string>> &items() const noexcept { return items_; }
  bool operator==(const Shape &) const = default;

 private:
  std::vector<std::pair<std::string, std::string>> items_;
};

}  // namespace switchyard
