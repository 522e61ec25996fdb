// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Engines for tests: nothing of the user's cache or environment gets in.

#include <gtest/gtest.h>
#include <stdlib.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <switchyard/engine.hpp>

namespace switchyard::testing {

/// A directory that goes with the test.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "switchyard-test-XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryDirectory(const TemporaryDirectory &) = delete;
  TemporaryDirectory &operator=(const TemporaryDirectory &) = delete;
  const std::string &path() const { return path_; }

 private:
  std::string path_;
};

/// Verdicts are shared by the engines of one test program and gone afterwards.
inline const std::string &shared_cache() {
  static const TemporaryDirectory directory;
  return directory.path();
}

/// Options that ignore the environment. Gates may take long in sanitizer builds.
inline Options test_options() {
  Options options;
  options.resolved = true;
  options.cache_dir = shared_cache();
  options.log_level = "off";
  options.gate_timeout_ms = 60'000;
  options.threads = 2;
  return options;
}

inline std::string fixture_directory(const std::string &name) {
  return std::string(SWITCHYARD_BINARY_DIR) + "/tests/plugins/" + name;
}

inline Engine make_engine(Options options = test_options()) {
  auto engine = Engine::create(std::move(options));
  if (!engine) {
    ADD_FAILURE() << engine.error().text();
    std::abort();
  }
  return std::move(*engine);
}

}  // namespace switchyard::testing
