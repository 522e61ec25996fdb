// SPDX-License-Identifier: Apache-2.0
#include "facade/result_cache.hpp"

#include <xxhash.h>

#include <cstring>
#include <new>

namespace switchyard {
namespace {

constexpr std::uint64_t kOverhead = 512;  // of an entry beside its arrays

void hash_elements(XXH3_state_t *state, const TensorView &view, int axis, const std::byte *at) {
  const std::size_t size = size_of(view.dtype());
  if (axis == view.rank()) {
    XXH3_128bits_update(state, at, size);
    return;
  }
  const std::int64_t n = view.dim(axis);
  const auto step = view.stride(axis) * static_cast<std::int64_t>(size);
  if (axis == view.rank() - 1 && view.stride(axis) == 1) {
    XXH3_128bits_update(state, at, static_cast<std::size_t>(n) * size);
    return;
  }
  for (std::int64_t i = 0; i < n; ++i) hash_elements(state, view, axis + 1, at + i * step);
}

Result<Tensor> clone(const Tensor &t) {
  if (!t.present()) return Tensor();
  auto out = Tensor::empty(t.dtype(), t.shape());
  if (!out) return out;
  if (!t.view().contiguous()) return fail(ErrorCode::unsupported, "results with gaps are not kept");
  if (t.elements() > 0)
    std::memcpy(out->data(), t.data(), static_cast<std::size_t>(t.elements()) * size_of(t.dtype()));
  return out;
}

/// Clones `from` into `to`; false when there was no memory.
bool clone_into(Tensor &to, const Tensor &from) {
  auto copy = clone(from);
  if (copy) to = std::move(*copy);
  return copy.has_value();
}

tl::unexpected<Error> no_memory() {
  return fail(ErrorCode::out_of_memory, "no memory for a copy of a result");
}

}  // namespace

ContentKey::ContentKey(std::string_view op) : state_(XXH3_createState()) {
  if (state_ == nullptr) throw std::bad_alloc();
  XXH3_128bits_reset(state_);
  add(op);
}
ContentKey::~ContentKey() { XXH3_freeState(state_); }

ContentKey &ContentKey::bytes(const void *data, std::size_t size) {
  XXH3_128bits_update(state_, data, size);
  return *this;
}

ContentKey &ContentKey::add(std::string_view text) {
  add(text.size());
  return bytes(text.data(), text.size());
}

ContentKey &ContentKey::add(const TensorView &view) {
  add(view.present());
  if (!view.present()) return *this;
  add(view.dtype().code).add(view.dtype().bits).add(view.dtype().format).add(view.rank());
  for (const std::int64_t n : view.shape()) add(n);
  if (view.contiguous())
    return bytes(view.data(), static_cast<std::size_t>(view.elements()) * size_of(view.dtype()));
  if (view.elements() > 0) hash_elements(state_, view, 0, view.data<std::byte>());
  return *this;
}

ContentKey::Value ContentKey::value() const {
  const XXH128_hash_t hash = XXH3_128bits_digest(state_);
  return {hash.high64, hash.low64};
}

std::shared_ptr<const void> ResultCache::find(const ContentKey::Value &key) {
  const std::lock_guard lock(mutex_);
  const auto it = index_.find(key);
  if (it == index_.end()) {
    ++counts_.misses;
    return nullptr;
  }
  ++counts_.hits;
  entries_.splice(entries_.begin(), entries_, it->second);
  return it->second->result;
}

void ResultCache::put(const ContentKey::Value &key, std::shared_ptr<const void> result,
                      std::uint64_t bytes) {
  bytes += kOverhead;
  if (bytes > capacity_) return;
  const std::lock_guard lock(mutex_);
  if (index_.contains(key)) return;  // another thread was faster
  while (counts_.bytes + bytes > capacity_) {
    counts_.bytes -= entries_.back().bytes;
    index_.erase(entries_.back().key);
    entries_.pop_back();
    ++counts_.evictions;
  }
  entries_.push_front({key, std::move(result), bytes});
  index_[key] = entries_.begin();
  counts_.bytes += bytes;
}

ResultCacheMetrics ResultCache::metrics() const {
  const std::lock_guard lock(mutex_);
  ResultCacheMetrics out = counts_;
  out.entries = entries_.size();
  out.capacity = capacity_;
  return out;
}

Result<Tensor> copy_of(const Tensor &t) { return clone(t); }

Result<Quantized> copy_of(const Quantized &q) {
  Quantized out{q.format, q.group_size, q.granularity, q.shape, q.dtype, {}, {}, {}, q.info};
  if (!clone_into(out.codes, q.codes) || !clone_into(out.scales, q.scales) ||
      !clone_into(out.biases, q.biases))
    return no_memory();
  return out;
}

Result<KMeansResult> copy_of(const KMeansResult &r) {
  KMeansResult out;
  if (!clone_into(out.labels, r.labels) || !clone_into(out.centroids, r.centroids) ||
      !clone_into(out.counts, r.counts))
    return no_memory();
  out.inertia = r.inertia;
  out.n_iter = r.n_iter;
  out.converged = r.converged;
  out.cancelled = r.cancelled;
  out.empty_clusters = r.empty_clusters;
  out.info = r.info;
  return out;
}

Result<AttentionResult> copy_of(const AttentionResult &r) {
  AttentionResult out;
  if (!clone_into(out.out, r.out) || !clone_into(out.lse, r.lse)) return no_memory();
  out.info = r.info;
  return out;
}

std::uint64_t bytes_of(const Tensor &t) noexcept { return t.present() ? t.bytes() : 0; }
std::uint64_t bytes_of(const Quantized &q) noexcept {
  return bytes_of(q.codes) + bytes_of(q.scales) + bytes_of(q.biases);
}
std::uint64_t bytes_of(const KMeansResult &r) noexcept {
  return bytes_of(r.labels) + bytes_of(r.centroids) + bytes_of(r.counts);
}
std::uint64_t bytes_of(const AttentionResult &r) noexcept {
  return bytes_of(r.out) + bytes_of(r.lse);
}

}  // namespace switchyard
