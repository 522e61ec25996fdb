// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <switchyard/batch.hpp>

namespace switchyard {
namespace {

constexpr std::uint64_t kMost = std::uint64_t{1} << 30;    // more in one piece gains nothing
constexpr std::uint64_t kLeast = std::uint64_t{16} << 20;  // when nothing is known, or little left

}  // namespace

Result<std::int64_t> batch_rows(std::uint64_t bytes_per_row, const BatchOptions &options) {
  if (bytes_per_row == 0)
    return fail(ErrorCode::invalid_argument, "bytes_per_row is 0; a row takes at least one byte");
  if (options.rows < 0)
    return fail(ErrorCode::invalid_argument,
                fmt::format("rows is {}; it must be 0 (automatic) or more", options.rows));
  if (options.rows > 0) return options.rows;
  const std::uint64_t memory =
      options.memory > 0 ? options.memory : std::clamp(available_memory() / 4, kLeast, kMost);
  return static_cast<std::int64_t>(
      std::clamp<std::uint64_t>(memory / bytes_per_row, 1, std::uint64_t{1} << 62));
}

Status in_batches(std::int64_t rows, std::uint64_t bytes_per_row, const BatchOptions &options,
                  const std::function<Status(std::int64_t, std::int64_t)> &work) {
  if (rows < 0)
    return fail(ErrorCode::invalid_argument,
                fmt::format("there are {} rows; it must be 0 or more", rows));
  const auto start = std::chrono::steady_clock::now();
  for (std::int64_t first = 0;;) {
    const auto next = batch_rows(bytes_per_row, options);
    if (!next) return tl::unexpected(next.error());
    if (options.progress) {
      const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - start;
      if (!options.progress({first, rows, std::min(*next, rows - first), spent.count()}))
        return fail(ErrorCode::cancelled, fmt::format("stopped after {} of {} rows", first, rows));
    }
    if (first == rows) return {};
    const std::int64_t count = std::min(*next, rows - first);
    if (const auto ok = work(first, count); !ok) return ok;
    first += count;
  }
}

}  // namespace switchyard
