// SPDX-License-Identifier: Apache-2.0
#include "host/log.hpp"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <switchyard/plugin.h>
#include <array>
#include <memory>

#include "base/suggest.hpp"

namespace switchyard {
namespace {

spdlog::logger &logger() {
  // Never destroyed: plugins may log until the process ends.
  static auto *instance = [] {
    auto *l = new spdlog::logger("switchyard", std::make_shared<spdlog::sinks::stderr_sink_mt>());
    l->set_pattern("switchyard: %l: %v");
    l->set_level(spdlog::level::warn);
    return l;
  }();
  return *instance;
}

}  // namespace

void log(int level, std::string_view message) {
  const auto to = level <= SY_LOG_DEBUG   ? spdlog::level::debug
                  : level == SY_LOG_INFO  ? spdlog::level::info
                  : level == SY_LOG_ERROR ? spdlog::level::err
                                          : spdlog::level::warn;
  logger().log(to, message);
}

Status set_log_level(std::string_view level) {
  static constexpr std::array<std::string_view, 5> names{"debug", "info", "warning", "error",
                                                         "off"};
  static constexpr std::array levels{spdlog::level::debug, spdlog::level::info, spdlog::level::warn,
                                     spdlog::level::err, spdlog::level::off};
  for (std::size_t i = 0; i < names.size(); ++i)
    if (names[i] == level) {
      logger().set_level(levels[i]);
      return {};
    }
  return fail(ErrorCode::usage,
              "unknown log level '" + std::string(level) + "'" + did_you_mean(level, names));
}

}  // namespace switchyard
