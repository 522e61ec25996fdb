// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Runs build/bin/switchyard as a user would: own process, own cache, files in a scratch folder.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <string>
#include <switchyard/tensor.hpp>
#include <vector>

#include "io/array_file.hpp"
#include "io/safetensors.hpp"

namespace switchyard::test {

namespace fs = std::filesystem;
using Json = nlohmann::json;

inline std::string slurp(const fs::path &path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// Removed with its contents at the end.
class Scratch {
 public:
  Scratch() {
    std::string name = (fs::temp_directory_path() / "switchyard-cli-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) std::abort();
    path_ = name;
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;
  std::string operator/(const std::string &name) const { return (path_ / name).string(); }
  const fs::path &path() const { return path_; }

 private:
  fs::path path_;
};

struct Finished {
  int code = -1;  ///< exit status; 1000 + signal if killed
  std::string out, err;

  /// The one document on stdout.
  Json json() const {
    Json doc = Json::parse(out, nullptr, false);
    EXPECT_FALSE(doc.is_discarded()) << "not one JSON document: " << out;
    return doc;
  }
};

/// A fixture: one scratch folder and one cache per test program, so that plugins are verified once.
class Cli : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!cache()) cache() = std::make_unique<Scratch>();
  }
  static std::unique_ptr<Scratch> &cache() {
    static std::unique_ptr<Scratch> dir;
    return dir;
  }
  static std::string program() { return SWITCHYARD_BINARY_DIR "/bin/switchyard"; }

  /// Starts a program in the scratch folder; stdout and stderr go to files there.
  pid_t start(const std::vector<std::string> &words,
              const std::map<std::string, std::string> &environment = {}) {
    std::vector<std::string> env{"PATH=" SWITCHYARD_BINARY_DIR "/bin:/usr/bin:/bin",
                                 "HOME=" + scratch.path().string(),
                                 "SWITCHYARD_CACHE_DIR=" + cache()->path().string(),
                                 // What drivers compile and say of their devices is kept.
                                 "XDG_CACHE_HOME=" SWITCHYARD_BINARY_DIR "/tests/cache"};
    for (const char *name :
         {"ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LD_LIBRARY_PATH", "LD_PRELOAD"})
      if (const char *value = std::getenv(name)) env.push_back(std::string(name) + "=" + value);
    for (const auto &[name, value] : environment) env.push_back(name + "=" + value);
    std::vector<char *> argv, envp;
    for (const std::string &w : words) argv.push_back(const_cast<char *>(w.c_str()));
    for (const std::string &e : env) envp.push_back(const_cast<char *>(e.c_str()));
    argv.push_back(nullptr);
    envp.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addchdir_np(&actions, scratch.path().c_str());
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    const std::string out = scratch / ".stdout", err = scratch / ".stderr";
    constexpr int flags = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), flags, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), flags, 0600);
    pid_t pid = -1;
    const int rc = posix_spawn(&pid, words[0].c_str(), &actions, nullptr, argv.data(), envp.data());
    posix_spawn_file_actions_destroy(&actions);
    EXPECT_EQ(rc, 0) << words[0];
    return rc == 0 ? pid : -1;
  }
  Finished finish(pid_t pid) {
    Finished done;
    int status = 0;
    if (pid > 0 && waitpid(pid, &status, 0) == pid)
      done.code = WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
    done.out = slurp(scratch / ".stdout");
    done.err = slurp(scratch / ".stderr");
    return done;
  }
  Finished run(std::vector<std::string> words,
               const std::map<std::string, std::string> &environment = {}) {
    words.insert(words.begin(), program());
    return finish(start(words, environment));
  }
  /// Expects success and one document.
  Json run_json(std::vector<std::string> words,
                const std::map<std::string, std::string> &environment = {}) {
    words.push_back("--json");
    const Finished done = run(words, environment);
    EXPECT_EQ(done.code, 0) << done.out << done.err;
    return done.json();
  }
  /// Expects an exit code, the error as text and as JSON with the same code and message, and no
  /// result on stdout.
  void expect_error(const std::vector<std::string> &words, int code, const std::string &name,
                    const std::string &part,
                    const std::map<std::string, std::string> &environment = {}) {
    const Finished text = run(words, environment);
    EXPECT_EQ(text.code, code) << text.err;
    EXPECT_EQ(text.out, "");
    EXPECT_NE(text.err.find(part), std::string::npos) << text.err;
    std::vector<std::string> with = words;
    with.push_back("--json");
    const Finished machine = run(with, environment);
    EXPECT_EQ(machine.code, code);
    const Json doc = machine.json();
    ASSERT_TRUE(doc.contains("error")) << machine.out;
    const Json &error = doc["error"];
    EXPECT_EQ(error.value("code", ""), name);
    EXPECT_NE(error.value("message", "").find(part), std::string::npos) << machine.out;
    for (const char *key : {"code", "message", "file", "line", "column"})
      EXPECT_TRUE(error.contains(key)) << key;
  }

  /// f32 values from a fixed generator.
  static std::vector<float> values(std::int64_t count, unsigned seed = 1) {
    std::mt19937 random(seed);
    std::vector<float> out(static_cast<std::size_t>(count));
    for (float &v : out) v = static_cast<float>(static_cast<double>(random()) / 2147483648.0 - 1.0);
    return out;
  }
  std::string array(const std::string &name, std::vector<std::int64_t> shape, unsigned seed = 1) {
    std::int64_t count = 1;
    for (std::int64_t n : shape) count *= n;
    return array(name, std::move(shape), values(count, seed));
  }
  template <class T = float>
  std::string array(const std::string &name, std::vector<std::int64_t> shape, std::vector<T> data,
                    DType dtype = dtypes::f32) {
    const std::string path = scratch / name;
    const auto ok =
        write_array(path, TensorView(static_cast<const void *>(data.data()), dtype, shape));
    EXPECT_TRUE(ok) << ok.error().text();
    return path;
  }
  /// Two weight matrices, a bias and an integer matrix.
  std::string model(const std::string &name) {
    const std::vector<float> a = values(4 * 64, 1), b = values(8 * 128, 2), bias = values(8, 3);
    const std::vector<std::int64_t> ids(6, 7);
    const std::int64_t sa[] = {4, 64}, sb[] = {8, 128}, sc[] = {8}, sd[] = {2, 3};
    const std::vector<NamedTensor> tensors{
        {"a.weight", TensorView(static_cast<const void *>(a.data()), dtypes::f32, sa)},
        {"b.weight", TensorView(static_cast<const void *>(b.data()), dtypes::f32, sb)},
        {"b.bias", TensorView(static_cast<const void *>(bias.data()), dtypes::f32, sc)},
        {"ids", TensorView(static_cast<const void *>(ids.data()), dtypes::i64, sd)}};
    const std::string path = scratch / name;
    EXPECT_TRUE(write_safetensors(path, tensors));
    return path;
  }
  std::string text(const std::string &name, const std::string &content) {
    const std::string path = scratch / name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  bool exists(const std::string &name) const { return fs::exists(scratch.path() / name); }

  Scratch scratch;
};

}  // namespace switchyard::test
