// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Results of earlier calls by the content of their inputs: the least recently used go first. Keys
/// are 128-bit hashes (not against an adversary who makes inputs collide).

#include <list>
#include <memory>
#include <mutex>
#include <string_view>
#include <switchyard/engine.hpp>
#include <unordered_map>

struct XXH3_state_s;

namespace switchyard {

/// Collects what a result depends on: operation, options, and the elements of the inputs.
class ContentKey {
 public:
  explicit ContentKey(std::string_view op);
  ContentKey(const ContentKey &) = delete;
  ContentKey &operator=(const ContentKey &) = delete;
  ~ContentKey();

  ContentKey &add(std::string_view text);
  /// Numbers, booleans and enumerations, by their bytes.
  template <class T>
  requires std::is_arithmetic_v<T> || std::is_enum_v<T> ContentKey &add(T value) {
    return bytes(&value, sizeof value);
  }
  /// dtype, shape and every element in order; strides do not matter. Absent differs from empty.
  ContentKey &add(const TensorView &view);

  struct Value {
    std::uint64_t high = 0, low = 0;
    bool operator==(const Value &) const = default;
  };
  Value value() const;

 private:
  ContentKey &bytes(const void *data, std::size_t size);
  XXH3_state_s *state_;
};

/// [any-thread]
class ResultCache {
 public:
  explicit ResultCache(std::uint64_t capacity) : capacity_(capacity) {}
  bool enabled() const noexcept { return capacity_ > 0; }

  /// Counts a hit or a miss.
  std::shared_ptr<const void> find(const ContentKey::Value &key);
  /// Keeps a result of `bytes` unless it alone is larger than the cache.
  void put(const ContentKey::Value &key, std::shared_ptr<const void> result, std::uint64_t bytes);
  ResultCacheMetrics metrics() const;

 private:
  struct Entry {
    ContentKey::Value key;
    std::shared_ptr<const void> result;
    std::uint64_t bytes;
  };
  struct Hash {
    std::size_t operator()(const ContentKey::Value &k) const noexcept {
      return static_cast<std::size_t>(k.low);
    }
  };
  const std::uint64_t capacity_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;  ///< latest first
  std::unordered_map<ContentKey::Value, std::list<Entry>::iterator, Hash> index_;
  ResultCacheMetrics counts_;
};

// Copies that share no memory with the original, and what they take.
Result<Quantized> copy_of(const Quantized &q);
Result<Tensor> copy_of(const Tensor &t);
Result<KMeansResult> copy_of(const KMeansResult &r);
Result<AttentionResult> copy_of(const AttentionResult &r);
std::uint64_t bytes_of(const Quantized &q) noexcept;
std::uint64_t bytes_of(const Tensor &t) noexcept;
std::uint64_t bytes_of(const KMeansResult &r) noexcept;
std::uint64_t bytes_of(const AttentionResult &r) noexcept;

template <class R>
bool worth_keeping(const R &) noexcept {
  return true;
}
inline bool worth_keeping(const KMeansResult &r) noexcept { return !r.cancelled; }

/// What `compute` returns, or a copy of what it returned for the same key. Sets `reused`. A copy
/// that there is no memory for is no error: the cache then does not take part.
template <class R, class Compute>
Result<R> through_cache(ResultCache &cache, const ContentKey::Value &key, bool &reused,
                        const Compute &compute) {
  reused = false;
  if (const auto kept = cache.find(key)) {
    auto copy = copy_of(*static_cast<const R *>(kept.get()));
    if (copy) {
      reused = true;
      return copy;
    }
  }
  Result<R> result = compute();
  if (!result || !worth_keeping(*result)) return result;
  if (auto copy = copy_of(*result)) {
    const std::uint64_t bytes = bytes_of(*copy);
    cache.put(key, std::make_shared<const R>(std::move(*copy)), bytes);
  }
  return result;
}

}  // namespace switchyard
