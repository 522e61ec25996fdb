// SPDX-License-Identifier: Apache-2.0
#include "facade/recommend.hpp"

#include <regex>

namespace switchyard {

// Engine::recommend says what to do in words for people; the tests hold both together.
std::string command_of(const Recommendation &recommendation) {
  static const std::regex pin(R"(pin (\S+) to (\S+) for calls like .*)"),
      repair(R"(repair or remove the plugin file (.*))"),
      threads(R"(raise the thread budget from \d+ to (\d+))");
  std::smatch m;
  if (std::regex_match(recommendation.what, m, pin))
    return "switchyard run CONFIG.yaml --set 'engine.pin={" + m[1].str() + ": " + m[2].str() + "}'";
  if (std::regex_match(recommendation.what, m, repair))
    return "switchyard plugin check " + m[1].str();
  if (std::regex_match(recommendation.what, m, threads))
    return "switchyard run CONFIG.yaml --threads " + m[1].str();
  if (recommendation.evidence.starts_with("shipped measurements")) return "switchyard doctor";
  return "";
}

}  // namespace switchyard
