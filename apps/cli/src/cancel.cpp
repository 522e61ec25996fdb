// SPDX-License-Identifier: Apache-2.0
#include "cancel.hpp"

#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <memory>

namespace switchyard::cli {
namespace {

constexpr char kText[] = "switchyard: interrupted\n";
constexpr char kJson[] =
    "{\"error\": {\"code\": \"cancelled\", \"message\": \"interrupted\", \"file\": null, "
    "\"line\": null, \"column\": null}}\n";

std::atomic<bool> g_cancelled{false};
std::atomic<int> g_end_at_once{0};
std::atomic<bool> g_json{false};

static_assert(std::atomic<bool>::is_always_lock_free && std::atomic<int>::is_always_lock_free);

void on_signal(int) {
  g_cancelled.store(true);
  if (g_end_at_once.load() == 0) return;
  // Only async-signal-safe calls from here.
  const ssize_t n = g_json.load() ? write(STDOUT_FILENO, kJson, sizeof(kJson) - 1)
                                  : write(STDERR_FILENO, kText, sizeof(kText) - 1);
  _exit(n < 0 ? 1 : 130);
}

bool on_terminal() noexcept {
  static const bool terminal = isatty(STDERR_FILENO) == 1;
  return terminal;
}

}  // namespace

void install_cancel_handler(bool json) noexcept {
  g_json.store(json);
  struct sigaction action;
  std::memset(&action, 0, sizeof(action));
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;  // a write in progress is finished, not cut short
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool cancelled() noexcept { return g_cancelled.load(std::memory_order_relaxed); }

tl::unexpected<Error> cancelled_error() { return fail(ErrorCode::cancelled, "interrupted"); }

Status check_cancelled() {
  if (cancelled()) return cancelled_error();
  return {};
}

EndAtOnce::EndAtOnce() noexcept { g_end_at_once.fetch_add(1); }
EndAtOnce::~EndAtOnce() { g_end_at_once.fetch_sub(1); }

void show_status(const std::string &line) {
  if (on_terminal()) fmt::print(stderr, "\r\x1b[K{}", line);
}

void clear_status() {
  if (on_terminal()) fmt::print(stderr, "\r\x1b[K");
}

Progress progress_bar(std::string label) {
  auto last = std::make_shared<int>(-1);
  return [label = std::move(label), last](double done) {
    const int percent = static_cast<int>(std::clamp(done, 0.0, 1.0) * 100);
    if (percent != *last) {
      *last = percent;
      show_status(fmt::format("{} {:3d} %", label, percent));
    }
    return !cancelled();
  };
}

}  // namespace switchyard::cli
