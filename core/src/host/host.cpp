// SPDX-License-Identifier: Apache-2.0
#include "host/host.hpp"

#include <errno.h>
#include <fmt/format.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <memory>
#include <mutex>

#include "host/log.hpp"
#include "host/thread_pool.hpp"

namespace switchyard {
namespace {

struct HostData {
  std::map<std::string, std::string> settings;
  sy_host host{};
};

void log_message(const sy_host *, std::int32_t level, const char *message) {
  log(level, message != nullptr ? message : "");
}

std::uint64_t clock_ns(const sy_host *) { return now_ns(); }

/// Plugins ask on processors that have AMX: there a refusal is worth a line, once.
std::int32_t amx_state(const sy_host *) {
  static const std::int32_t state = [] {
    const std::int32_t answer = request_amx();
    if (answer != SY_OK)
      log(SY_LOG_WARNING, fmt::format("kernels with AMX tiles are left out: {}", amx_refusal()));
    return answer;
  }();
  return state;
}

void parallel_for(const sy_host *, std::uint64_t n, sy_task_fn fn, void *arg,
                  std::uint32_t max_threads) {
  ThreadPool::process().run(n, fn, arg, max_threads);
}

const char *get_setting(const sy_host *host, const char *name) {
  if (name == nullptr) return nullptr;
  const auto &settings = static_cast<const HostData *>(host->host_data)->settings;
  const auto it = settings.find(name);
  return it == settings.end() ? nullptr : it->second.c_str();
}

const void *get_extension(const sy_host *, const char *) { return nullptr; }

}  // namespace

const sy_host *make_host(const std::map<std::string, std::string> &settings) {
  static std::mutex mutex;
  static auto *hosts = new std::map<std::map<std::string, std::string>, HostData *>;
  std::lock_guard lock(mutex);
  HostData *&slot = (*hosts)[settings];
  if (slot == nullptr) {
    slot = new HostData{settings, {}};
#if defined(SWITCHYARD_TSAN)
    slot->settings["executor"] = "host";  // the sanitizer misreads OpenMP's barriers
#endif
    slot->host = {sizeof(sy_host), SY_ABI_MAJOR, SY_ABI_MINOR, slot,        log_message,
                  clock_ns,        amx_state,    parallel_for, get_setting, get_extension};
  }
  return &slot->host;
}

std::uint64_t now_ns() noexcept {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(t.tv_nsec);
}

namespace {

/// 0, or what the operating system answered.
int ask_for_tile_data() noexcept {
#if defined(__x86_64__) && defined(SYS_arch_prctl)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  static const int error = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0 ? 0 : errno;
  return error;
#else
  return ENOSYS;
#endif
}

}  // namespace

std::int32_t request_amx() noexcept { return ask_for_tile_data() == 0 ? SY_OK : SY_E_HARDWARE; }

std::string amx_refusal() {
  switch (const int error = ask_for_tile_data()) {
    case 0:
      return {};
    case EINVAL:
    case ENOSYS:
      return "the operating system has no permission for tile data to give (Linux before 5.16)";
    case EOPNOTSUPP:
      return "the processor has no tile data, or its operating system keeps none";
    case ENOSPC:
      return "a thread's alternate signal stack is too small to hold tile data";
    default:
      return fmt::format("the operating system refuses tile data: {}", strerror(error));
  }
}

}  // namespace switchyard
