// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Who answered the calls of a fit, and how long it took.

#include <chrono>
#include <map>
#include <string>

#include "dispatcher/runner.hpp"

namespace switchyard::kmeans {

/// Who answered how many steps.
class Tally {
 public:
  void add(const Answer &answer) {
    auto &mine = answers_[std::string(answer.kernel)];
    ++mine.count;
    mine.backend = answer.backend;
    mine.verified = answer.verified;
    if (!answer.fallback_reason.empty()) fallback_ = answer.fallback_reason;
  }
  void fill(RunInfo &info) const {
    int most = 0;
    for (const auto &[kernel, a] : answers_)
      if (a.count > most) {
        most = a.count;
        info.kernel = kernel;
        info.backend = a.backend;
        info.verified = a.verified;
      }
    info.fallback_reason = fallback_;
  }

 private:
  struct Entry {
    int count = 0;
    std::string backend, verified;
  };
  std::map<std::string, Entry> answers_;
  std::string fallback_;
};

class Clock {
 public:
  double ms() const {
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_)
        .count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace switchyard::kmeans
