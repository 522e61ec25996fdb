// SPDX-License-Identifier: Apache-2.0
/// Says which array a kernel left, and where, before the process ends.
#include <signal.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>

#include "verify/guard_pages.hpp"

namespace switchyard {
namespace {

// Read by a signal handler: plain data, published by `watched`.
std::array<GuardedArrays::Array, 2 * CallFrame::kSlots> regions;
std::array<char, 512> place;
std::atomic<std::size_t> watched{0};
std::atomic<int> report_fd{-1};

bool is_write(const void *context) noexcept {
#if defined(__x86_64__)
  constexpr long long kWrite = 2;  // the page-fault code's bit
  const auto *user = static_cast<const ucontext_t *>(context);
  return (user->uc_mcontext.gregs[REG_ERR] & kWrite) != 0;
#else
  (void)context;
  return false;
#endif
}

void describe(const GuardedArrays::Array &a, const std::byte *at, bool wrote) noexcept {
  std::array<char, 768> line{};
  const char *verb = wrote ? "wrote" : "read";
  const char *kind = a.input ? "input" : "output";
  int length = 0;
  if (at < a.data)
    length = std::snprintf(line.data(), line.size(), "fault %s %td bytes before %s %zu on %s\n",
                           verb, a.data - at, kind, a.slot, place.data());
  else if (at < a.data + a.bytes)
    length = std::snprintf(line.data(), line.size(), "fault modified its inputs: %s %zu on %s\n",
                           kind, a.slot, place.data());
  else
    length = std::snprintf(line.data(), line.size(),
                           "fault %s beyond the end of %s %zu (byte %td of %zu) on %s\n", verb,
                           kind, a.slot, at - a.data, a.bytes, place.data());
  if (length > 0)
    (void)!::write(report_fd.load(), line.data(),
                   std::min(static_cast<std::size_t>(length), line.size() - 1));
}

void on_fault(int signal_number, siginfo_t *info, void *context) {
  const auto *at = static_cast<const std::byte *>(info->si_addr);
  for (std::size_t i = 0; i < watched.load(std::memory_order_acquire); ++i) {
    const GuardedArrays::Array &a = regions[i];
    if (a.mapping == nullptr || at < a.mapping || at >= a.mapping + a.mapped) continue;
    describe(a, at, is_write(context));
    _exit(1);
  }
  // Elsewhere: the instruction faults again and the process ends by the signal.
  signal(signal_number, SIG_DFL);
}

}  // namespace

GuardWatch::GuardWatch(const GuardedArrays &arrays, const std::string &where) noexcept {
  std::snprintf(place.data(), place.size(), "%s", where.c_str());
  const std::size_t n = std::min(arrays.arrays().size(), regions.size());
  std::copy_n(arrays.arrays().begin(), n, regions.begin());
  watched.store(n, std::memory_order_release);
}

GuardWatch::~GuardWatch() { watched.store(0, std::memory_order_release); }

void report_guard_faults(int fd) noexcept {
  report_fd.store(fd);
  struct sigaction action {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

}  // namespace switchyard
