// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Arrays larger than memory, in batches of whole rows. Nothing here reads or writes data: the
/// caller's function does, for a range of rows at a time.
///
///     switchyard::in_batches(rows, row_bytes, {}, [&](std::int64_t first, std::int64_t count) {
///       auto q = engine.quantize({data + first * k, {count, k}}, {.format = "q4_0"});
///       return q ? store(first, *q) : switchyard::Status(tl::unexpected(q.error()));
///     });

#include <cstdint>
#include <functional>
#include <switchyard/result.hpp>

namespace switchyard {

/// Bytes that this process may still take: the least of what the system has available and what each
/// control group above this process leaves. 0 when none of it can be read. [any-thread]
SY_API std::uint64_t available_memory();

struct BatchProgress {
  std::int64_t done = 0, total = 0;  ///< rows
  std::int64_t batch_rows = 0;       ///< of the next batch
  double seconds = 0;                ///< since the start
};

struct BatchOptions {
  std::int64_t rows = 0;  ///< of each batch; 0 = as many as fit `memory`
  /// Bytes that a batch may take with all that `bytes_per_row` counts; 0 = a quarter of
  /// available_memory(), asked again before each batch, at most 1 GiB.
  std::uint64_t memory = 0;
  /// Called before the first batch and after each one; false stops with `cancelled`.
  std::function<bool(const BatchProgress &)> progress{};
};

/// Rows of the next batch: at least 1. Fails where `bytes_per_row` or an option is negative or 0.
SY_API Result<std::int64_t> batch_rows(std::uint64_t bytes_per_row, const BatchOptions &options);

/// Calls `work(first, count)` for consecutive ranges that cover 0..rows. `bytes_per_row`: all that
/// a row needs while its batch is worked on, inputs, outputs and copies. Stops at the first error.
SY_API Status in_batches(std::int64_t rows, std::uint64_t bytes_per_row,
                         const BatchOptions &options,
                         const std::function<Status(std::int64_t first, std::int64_t count)> &work);

}  // namespace switchyard
