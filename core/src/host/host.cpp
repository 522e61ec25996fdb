// SPDX-License-Identifier: Apache-2.0
#include "host/host.hpp"

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

std::int32_t amx_state(const sy_host *) { return request_amx(); }

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

std::int32_t request_amx() noexcept {
#if defined(__x86_64__) && defined(SYS_arch_prctl)
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;
  static const bool granted = syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted ? SY_OK : SY_E_HARDWARE;
#else
  return SY_E_HARDWARE;
#endif
}

}  // namespace switchyard
