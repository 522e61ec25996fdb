// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The memory of a cache: arrays [outer, heads, slots, row] of codes, scales and biases of keys and
/// values. A token is a row of each.

#include <switchyard/kv_cache.hpp>
#include <vector>

#include "attention/attention.hpp"

namespace switchyard {

/// What a token's rows are.
struct KVGeometry {
  struct Plane {
    DType dtype;
    std::int64_t elements;  ///< of a row
    std::size_t row_bytes() const noexcept {
      return static_cast<std::size_t>(elements) * size_of(dtype);
    }
  };
  enum : std::size_t { keys, values, key_scales, key_biases, value_scales, value_biases };
  std::vector<Plane> planes;  ///< in this order; the last four for q4 only
  std::int64_t heads = 0;
  std::uint32_t format = SY_QUANT_NONE, group = 0;

  /// Fails where dimensions do not fit the format.
  static Result<KVGeometry> of(const KVCacheOptions &options);
  std::uint64_t token_bytes() const noexcept;  ///< of one sequence
};

/// Rows of n new tokens, ready to be stored: contiguous [B, heads, n, row] arrays or the caller's.
struct KVRows {
  std::vector<Tensor> owned;
  std::vector<TensorView> planes;
};

/// Checks k and v against the options, quantises them where wanted.
Result<KVRows> make_rows(Runner &runner, const KVGeometry &geometry, const KVCacheOptions &options,
                         const TensorView &k, const TensorView &v);

/// Entries begin..begin+count-1 of an axis.
TensorView slice(const TensorView &t, int axis, std::int64_t begin, std::int64_t count) noexcept;

class KVPlanes {
 public:
  KVPlanes() = default;
  static Result<KVPlanes> make(const KVGeometry &geometry, std::int64_t outer, std::int64_t slots,
                               std::shared_ptr<KVBudget> budget);
  KVPlanes(KVPlanes &&other) noexcept { *this = std::move(other); }
  KVPlanes &operator=(KVPlanes &&other) noexcept;
  ~KVPlanes();

  std::int64_t outer() const noexcept { return outer_; }
  std::int64_t slots() const noexcept { return slots_; }
  std::uint64_t bytes() const noexcept { return bytes_; }
  const TensorView &plane(std::size_t i) const noexcept { return arrays_[i].view(); }
  std::size_t count() const noexcept { return arrays_.size(); }

  /// Rows from..from+n-1 of sequence `b` of `rows` to slots at.. of `outer`.
  void store(const KVRows &rows, std::int64_t b, std::int64_t from, std::int64_t n,
             std::int64_t outer, std::int64_t at) noexcept;
  /// Slots from.. of another's (or this one's, overlapping too) `outer` to slots at.. of
  /// `to_outer`.
  void copy(const KVPlanes &other, std::int64_t outer, std::int64_t from, std::int64_t n,
            std::int64_t to_outer, std::int64_t at) noexcept;
  /// The first byte of a row; rows of a head's slots lie together.
  std::byte *row(std::size_t plane, std::int64_t outer, std::int64_t head,
                 std::int64_t slot) const noexcept;

 private:
  std::vector<Tensor> arrays_;
  std::int64_t outer_ = 0, slots_ = 0;
  std::uint64_t bytes_ = 0;
  std::shared_ptr<KVBudget> budget_;
};

/// What the attention call needs beside codes: views of slots begin..begin+count-1.
StoredKeys stored_keys(const KVGeometry &geometry, const KVPlanes &planes, std::int64_t count);

}  // namespace switchyard
