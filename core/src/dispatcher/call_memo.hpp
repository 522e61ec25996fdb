// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What a thread remembers of its calls: a call that equals an earlier one in everything but where
/// its data lies needs no second validation, key or look-up. (OpSpec::validate, `supports` and
/// `workspace_size` depend on descriptions and alignment only, never on data.) The latest few are
/// compared in full; some hundred more are known by a 128-bit hash of their descriptions.

#include <xxhash.h>

#include <array>
#include <cstring>
#include <utility>

#include "dispatcher/decision.hpp"

namespace switchyard {

/// What follows from a call's description.
struct KnownCall {
  Decision *decision = nullptr;
  Work work;
  Choice *choice = nullptr;  ///< whose support and workspace are known
  std::uint64_t workspace = 0;
};

struct RememberedCall {
  static constexpr std::size_t kTensors = 12;
  static constexpr std::size_t kParams = 64;

  std::uint64_t dispatcher = 0;  ///< unique number of the dispatcher, 0 = empty
  OpIndex op = 0;
  std::uint32_t threads = 0, n_inputs = 0, n_outputs = 0;
  std::uint64_t params_size = 0;
  std::array<std::byte, kParams> params{};
  std::array<bool, kTensors> present{};
  std::array<sy_tensor, kTensors> tensors{};

  KnownCall known;

  /// Can such a call be remembered at all?
  static bool fits(const sy_call &call) noexcept {
    return call.n_inputs + call.n_outputs <= kTensors && call.params_size <= kParams;
  }

  bool matches(std::uint64_t dispatcher_id, OpIndex op_index, const sy_call &call) const noexcept {
    if (dispatcher != dispatcher_id || op != op_index || threads != call.threads ||
        n_inputs != call.n_inputs || n_outputs != call.n_outputs ||
        params_size != call.params_size ||
        std::memcmp(params.data(), call.params, params_size) != 0)
      return false;
    for (std::uint32_t i = 0; i < n_inputs; ++i)
      if (!same_but_data(i, call.inputs[i])) return false;
    for (std::uint32_t i = 0; i < n_outputs; ++i)
      if (!same_but_data(n_inputs + i, call.outputs[i])) return false;
    return true;
  }

  void assign(std::uint64_t dispatcher_id, OpIndex op_index, const sy_call &call,
              const KnownCall &follows) noexcept {
    dispatcher = dispatcher_id;
    op = op_index;
    threads = call.threads;
    n_inputs = call.n_inputs;
    n_outputs = call.n_outputs;
    params_size = call.params_size;
    std::memcpy(params.data(), call.params, params_size);
    for (std::uint32_t i = 0; i < n_inputs + n_outputs; ++i) {
      const sy_tensor *t = i < n_inputs ? call.inputs[i] : call.outputs[i - n_inputs];
      present[i] = t != nullptr;
      if (t != nullptr) tensors[i] = *t;
    }
    known = follows;
  }

 private:
  bool same_but_data(std::size_t i, const sy_tensor *t) const noexcept {
    if (t == nullptr) return !present[i];
    if (!present[i]) return false;
    const sy_tensor &mine = tensors[i];
    const auto a = reinterpret_cast<std::uintptr_t>(mine.handle);
    const auto b = reinterpret_cast<std::uintptr_t>(t->handle);
    constexpr std::size_t kFrom = offsetof(sy_tensor, byte_offset);
    return (a ^ b) % 64 == 0 && (a == 0) == (b == 0) &&
           std::memcmp(&mine.byte_offset, &t->byte_offset, sizeof(sy_tensor) - kFrom) == 0;
  }
};

/// Calls by the hash of their descriptions; a newer one takes an older one's slot.
class HashedCalls {
 public:
  struct Entry {
    XXH128_hash_t hash{};
    KnownCall known;
  };

  static XXH128_hash_t hash(std::uint64_t dispatcher, OpIndex op, const sy_call &call) noexcept {
    // Packed without gaps: every byte is written.
    std::array<std::byte, RememberedCall::kParams +
                              RememberedCall::kTensors *(kDescription + sizeof(std::uint64_t))>
        packed;
    std::size_t at = 0;
    const auto add = [&](const void *bytes, std::size_t n) {
      std::memcpy(packed.data() + at, bytes, n);
      at += n;
    };
    add(call.params, call.params_size);
    const auto tensor = [&](const sy_tensor *t) {
      const auto address = t != nullptr ? reinterpret_cast<std::uintptr_t>(t->handle) : 0;
      const std::uint64_t mark = t == nullptr ? 0 : 1 + (address == 0 ? 64 : address % 64);
      add(&mark, sizeof mark);
      if (t != nullptr) add(&t->byte_offset, kDescription);
    };
    for (std::uint32_t i = 0; i < call.n_inputs; ++i) tensor(call.inputs[i]);
    for (std::uint32_t i = 0; i < call.n_outputs; ++i) tensor(call.outputs[i]);
    const std::uint64_t seed =
        dispatcher * 0x9E3779B97F4A7C15ull +
        (std::uint64_t{op} << 32 | call.threads << 16 | call.n_inputs << 8 | call.n_outputs);
    return XXH3_128bits_withSeed(packed.data(), at, seed);
  }
  Entry &slot(const XXH128_hash_t &hash) noexcept { return entries_[hash.low64 % kEntries]; }
  static bool same(const XXH128_hash_t &a, const XXH128_hash_t &b) noexcept {
    return a.low64 == b.low64 && a.high64 == b.high64;
  }

 private:
  static constexpr std::size_t kEntries = 256;
  static constexpr std::size_t kDescription = sizeof(sy_tensor) - offsetof(sy_tensor, byte_offset);
  std::array<Entry, kEntries> entries_{};
};

/// One thread's memory of calls.
class CallMemo {
 public:
  /// What is known of an equal call, to be read and kept up to date, or null.
  KnownCall *find(std::uint64_t dispatcher, OpIndex op, const sy_call &call) noexcept {
    if (!RememberedCall::fits(call)) return nullptr;
    for (RememberedCall &r : latest_)
      if (r.matches(dispatcher, op, call)) return &r.known;
    const XXH128_hash_t before = std::exchange(hash_, HashedCalls::hash(dispatcher, op, call));
    HashedCalls::Entry &older = older_.slot(hash_);
    if (older.known.decision == nullptr || !HashedCalls::same(older.hash, hash_)) return nullptr;
    // Asked for twice running, it is one of the latest again.
    return HashedCalls::same(before, hash_) ? newest(dispatcher, op, call, older.known)
                                            : &older.known;
  }
  /// Remembers a call that `find` has just not found; null when it does not fit.
  KnownCall *keep(std::uint64_t dispatcher, OpIndex op, const sy_call &call,
                  const KnownCall &known) noexcept {
    if (!RememberedCall::fits(call)) return nullptr;
    older_.slot(hash_) = {hash_, known};
    return newest(dispatcher, op, call, known);
  }

 private:
  KnownCall *newest(std::uint64_t dispatcher, OpIndex op, const sy_call &call,
                    const KnownCall &known) noexcept {
    RememberedCall &r = latest_[next_++ % latest_.size()];
    r.assign(dispatcher, op, call, known);
    return &r.known;
  }

  std::array<RememberedCall, 4> latest_{};
  std::size_t next_ = 0;
  HashedCalls older_;
  XXH128_hash_t hash_{};
};

}  // namespace switchyard
