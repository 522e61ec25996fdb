// SPDX-License-Identifier: Apache-2.0
// Bad input and bad usage: each is a clear error with its exit code, as text and as JSON.
#include <cmath>
#include <limits>

#include "cli/cli_test_util.hpp"

namespace switchyard::test {
namespace {

using Words = std::vector<std::string>;

TEST_F(Cli, UnknownCommandSuggests) {
  expect_error({"quantise", "a", "b"}, 2, "usage", "did you mean 'quantize'");
  expect_error({"plugin", "lst"}, 2, "usage", "did you mean 'list'");
  expect_error({}, 2, "usage", "kmeans");
  expect_error({"plugin"}, 2, "usage", "list");
}

TEST_F(Cli, UnknownOptionSuggests) {
  expect_error({"info", "--limts"}, 2, "usage", "did you mean '--limits'");
  expect_error({"quantize", "a.npy", "b.npz", "--format", "q4_0", "--groupsize", "32"}, 2, "usage",
               "did you mean '--group-size'");
  expect_error({"doctor", "extra"}, 2, "usage", "extra");
  expect_error({"run", "a.yaml", "--reprot", "x.html"}, 2, "usage", "did you mean '--report'");
}

TEST_F(Cli, MissingArguments) {
  expect_error({"quantize", "a.npy"}, 2, "usage", "OUT");
  expect_error({"kmeans", "a.npy"}, 2, "usage", "-k");
  expect_error({"quantize", "a.npy", "b.npz"}, 2, "usage", "--format");
}

TEST_F(Cli, BadOptionValuesOutrankMissingFiles) {
  const Words quantize{"quantize", "missing.npy", "out.npz", "--format"};
  const auto with = [](Words words, const Words &more) {
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  expect_error(with(quantize, {"q4"}), 2, "usage", "q4_0");
  expect_error(with(quantize, {"mlx_afine4"}), 2, "usage", "did you mean 'mlx_affine4'");
  expect_error(with(quantize, {"ternary", "--granularity", "rows"}), 2, "usage", "row");
  expect_error(with(quantize, {"q4_0", "--scale", "absmx"}), 2, "usage", "absmax");
  expect_error(with(quantize, {"mlx_affine4", "--group-size", "48"}), 2, "invalid_argument", "48");
  expect_error(with(quantize, {"q4_0", "--policy", "adaptve"}), 2, "usage", "adaptive");
  expect_error(with(quantize, {"q4_0", "--preset", "sped"}), 2, "usage", "did you mean 'speed'");
  expect_error(with(quantize, {"q4_0", "--dtype", "f8"}), 2, "usage", "f16");
  expect_error(with(quantize, {"q4_0", "--isa", "avx3"}), 2, "usage", "avx2");
  expect_error(with(quantize, {"q4_0", "--threads", "0"}), 2, "usage", "--threads");
  expect_error(with(quantize, {"q4_0", "--threads", "many"}), 2, "usage", "many");
  expect_error({"quantize", "missing.npy", "out.txt", "--format", "q4_0"}, 2, "usage",
               ".safetensors");
  expect_error({"quantize", "missing.npy", "out.gguf", "--format", "mlx_affine4"}, 2, "usage",
               "no GGUF type");
  expect_error({"quantize", "missing", "out"}, 2, "usage", "--recipe");
  expect_error({"quantize", "missing", "out", "--recipe", "S", "--group-size", "32"}, 2, "usage",
               "--group-size");
  expect_error({"quantize", "missing", "out.npz", "--recipe", "SPEED_4BIT"}, 2, "usage", "folder");
  expect_error({"quantize", "missing", "out", "--target-bits", "0.1"}, 2, "usage", "0.1");
  expect_error({"quantize", "missing", "out", "--recipe", "SPEED"}, 2, "usage", "SPEED_4BIT");
  expect_error({"kmeans", "missing.npy", "-k", "0"}, 2, "usage", "-k 0");
  expect_error({"kmeans", "missing.npy", "-k", "two"}, 2, "usage", "two");
  expect_error({"kmeans", "missing.npy", "-k", "2", "--init", "kmeans++"}, 2, "usage",
               "did you mean 'k-means++'");
  expect_error({"kmeans", "missing.npy", "-k", "2", "--tol", "-1"}, 2, "usage", "--tol");
  expect_error({"kmeans", "missing.npy", "-k", "2", "--n-init", "0"}, 2, "usage", "--n-init");
  expect_error({"kmeans", "missing.npy", "-k", "2", "--labels", "l.txt"}, 2, "usage", ".npy");
  expect_error({"attention", "m.npy", "m.npy", "m.npy", "o.npy", "--window", "0"}, 2, "usage",
               "--window");
  expect_error({"attention", "m.npy", "m.npy", "m.npy", "o.npy", "--softcap", "0"}, 2, "usage",
               "--softcap");
  expect_error({"explain", "kmean", "n=1"}, 2, "usage", "kmeans");
  expect_error({"explain", "kmeans", "n=10,k=2,dd=3"}, 2, "usage", "dd");
  expect_error({"explain", "kmeans", "n"}, 2, "usage", "name=value");
  expect_error({"bench", "attn"}, 2, "usage", "attn");
  expect_error({"bench", "kmeans", "n=x"}, 2, "usage", "n=x");
}

TEST_F(Cli, MissingFileIsNamed) {
  expect_error({"kmeans", "missing.npy", "-k", "2"}, 1, "io", "");
  const Finished done = run({"kmeans", "missing.npy", "-k", "2"});
  EXPECT_EQ(done.err.rfind("missing.npy: ", 0), 0u) << done.err;
  const Json doc = run({"kmeans", "missing.npy", "-k", "2", "--json"}).json();
  EXPECT_EQ(doc["error"]["file"], "missing.npy");
  expect_error({"dequantize", "missing.npz", "out.npy"}, 1, "io", "");
  expect_error({"metrics", "missing.json"}, 1, "io", "");
  expect_error({"run", "missing.yaml"}, 1, "io", "");
}

TEST_F(Cli, CorruptFiles) {
  text("junk.npy", "this is not an array");
  text("cut.npy", slurp(array("whole.npy", {8, 8})).substr(0, 200));
  text("junk.json", "[1, 2");
  text("huge.safetensors", std::string("\xff\xff\xff\xff\xff\xff\xff\x7f{}", 10));
  expect_error({"kmeans", "junk.npy", "-k", "2"}, 1, "io", "");
  expect_error({"kmeans", "cut.npy", "-k", "2"}, 1, "io", "");
  expect_error({"metrics", "junk.json"}, 1, "io", "metrics");
  expect_error({"quantize", "huge.safetensors", "o.npz", "--format", "q4_0"}, 1, "io", "");
  expect_error({"dequantize", "whole.npy", "o.npy"}, 1, "io", "");
  EXPECT_FALSE(exists("o.npz"));
}

TEST_F(Cli, TamperedQuantizedFilesAreRefused) {
  array("w.npy", {4, 64});
  ASSERT_EQ(run({"quantize", "w.npy", "w.safetensors", "--format", "q8_0"}).code, 0);
  std::string bytes = slurp(scratch / "w.safetensors");
  const auto at = bytes.find("[4,64]");
  ASSERT_NE(at, std::string::npos);
  bytes.replace(at, 6, "[4,96]");
  text("lie.safetensors", bytes);
  expect_error({"dequantize", "lie.safetensors", "o.npy"}, 1, "io", "blocks");
  EXPECT_FALSE(exists("o.npy"));
}

TEST_F(Cli, WrongShapesAndDtypes) {
  array("flat.npy", {12});
  array("odd.npy", {3, 33});
  array("points.npy", {10, 2});
  array<std::int32_t>("ints.npy", {2, 32}, std::vector<std::int32_t>(64, 1), dtypes::i32);
  array<double>("doubles.npy", {2, 32}, std::vector<double>(64, 1.0), dtypes::f64);
  array("q.npy", {1, 3, 4, 8});
  array("k.npy", {1, 2, 4, 8});
  expect_error({"kmeans", "flat.npy", "-k", "2"}, 1, "shape", "[n, d]");
  expect_error({"quantize", "odd.npy", "o.npz", "--format", "q4_0"}, 1, "shape", "33");
  expect_error({"kmeans", "ints.npy", "-k", "2"}, 1, "dtype", "i32");
  expect_error({"quantize", "ints.npy", "o.npz", "--format", "q4_0"}, 1, "dtype", "i32");
  expect_error({"kmeans", "doubles.npy", "-k", "2"}, 1, "dtype", "--dtype f32");
  EXPECT_EQ(run({"kmeans", "doubles.npy", "-k", "2", "--dtype", "f32"}).code, 0);
  expect_error({"attention", "q.npy", "k.npy", "k.npy", "o.npy"}, 1, "shape", "");
  expect_error({"attention", "points.npy", "k.npy", "k.npy", "o.npy"}, 1, "shape", "");
  EXPECT_FALSE(exists("o.npz"));
  EXPECT_FALSE(exists("o.npy"));
}

TEST_F(Cli, NonFiniteValuesAreNamedByIndex) {
  auto data = values(4 * 64);
  data[70] = std::numeric_limits<float>::quiet_NaN();
  array("nan.npy", {4, 64}, data);
  expect_error({"quantize", "nan.npy", "o.npz", "--format", "q4_0"}, 1, "nonfinite", "70");
  expect_error({"kmeans", "nan.npy", "-k", "2"}, 1, "nonfinite", "");
  const Json doc = run({"kmeans", "nan.npy", "-k", "2", "--json"}).json();
  EXPECT_EQ(doc["error"]["index"], 70);
  EXPECT_EQ(
      run({"quantize", "nan.npy", "ok.npz", "--format", "q4_0", "--nonfinite", "saturate"}).code,
      0);
  EXPECT_FALSE(exists("o.npz"));
}

TEST_F(Cli, MoreClustersThanPointsIsUsage) {
  array("points.npy", {10, 2});
  expect_error({"kmeans", "points.npy", "-k", "11"}, 2, "usage", "10 rows");
  // It outranks an unknown backend.
  expect_error({"kmeans", "points.npy", "-k", "11", "--backend", "nosuch"}, 2, "usage", "-k 11");
}

TEST_F(Cli, UnknownBackendListsTheKnownOnes) {
  array("points.npy", {10, 2});
  expect_error({"kmeans", "points.npy", "-k", "2", "--backend", "refrence"}, 4, "backend",
               "did you mean 'reference'");
  expect_error({"kmeans", "points.npy", "-k", "2", "--require-backend", "nosuch"}, 4, "backend",
               "known: ");
  expect_error({"kmeans", "points.npy", "-k", "2"}, 4, "backend", "nosuch",
               {{"SWITCHYARD_BACKEND", "nosuch"}});
  expect_error({"explain", "kmeans", "n=10,d=2,k=2", "--backend", "nosuch"}, 4, "backend",
               "nosuch");
  expect_error({"bench", "kmeans", "n=10,d=2,k=2", "--backend", "nosuch"}, 4, "backend", "nosuch");
}

TEST_F(Cli, WhatThisVersionDoesNotOfferIsSaid) {
  array("points.npy", {10, 2});
  expect_error({"kmeans", "points.npy", "-k", "2", "--batch-size", "4", "--n-init", "2"}, 4,
               "unsupported", "mini-batch");
}

TEST_F(Cli, BadEnvironmentIsUsage) {
  expect_error({"info"}, 2, "usage", "SWITCHYARD_ISA", {{"SWITCHYARD_ISA", "avx3"}});
}

TEST_F(Cli, UnreadablePluginIsReportedAndTheOthersWork) {
  fs::create_directory(scratch.path() / "plugins");
  fs::permissions(scratch.path() / "plugins", fs::perms::owner_all);
  const std::string junk = text("plugins/switchyard_junk.so", "no ELF file at all");
  fs::permissions(junk, fs::perms::owner_read | fs::perms::owner_write);
  const std::map<std::string, std::string> environment{
      {"SWITCHYARD_PLUGIN_PATH", (scratch.path() / "plugins").string()}};
  const Json doc = run_json({"plugin", "list"}, environment);
  bool refused = false, reference = false;
  for (const Json &plugin : doc["plugins"]) {
    if (plugin["path"] == junk) {
      refused = plugin["status"] == "refused" && !plugin["reason"].get<std::string>().empty();
    }
    reference = reference || (plugin["id"] == "reference" && plugin["status"] == "loaded");
  }
  EXPECT_TRUE(refused) << doc.dump(2);
  EXPECT_TRUE(reference);
  const Finished doctor = run({"doctor"}, environment);
  EXPECT_EQ(doctor.code, 0);
  EXPECT_NE(doctor.out.find("switchyard_junk.so refused"), std::string::npos) << doctor.out;
}

std::string fixture(const std::string &name) {
  return SWITCHYARD_BINARY_DIR "/tests/plugins/" + name;
}

TEST_F(Cli, PinnedBackendThatFailsVerificationEndsWith5) {
  array("points.npy", {50, 4});
  const std::map<std::string, std::string> environment{
      {"SWITCHYARD_PLUGIN_PATH", fixture("fails_in_run")}};
  expect_error(
      {"kmeans", "points.npy", "-k", "4", "--backend", "fails_in_run", "--labels", "labels.npy"}, 5,
      "verification", "this fixture always fails", environment);
  EXPECT_FALSE(exists("labels.npy"));
  // Without the pin the others do the work.
  EXPECT_EQ(run({"kmeans", "points.npy", "-k", "4"}, environment).code, 0);
}

TEST_F(Cli, CrashingPluginIsRefusedWithItsReason) {
  array("points.npy", {50, 4});
  const std::map<std::string, std::string> environment{
      {"SWITCHYARD_PLUGIN_PATH", fixture("crash_at_load")}};
  expect_error({"kmeans", "points.npy", "-k", "4", "--backend", "crash_at_load"}, 4, "backend",
               "crash", environment);
  EXPECT_EQ(run({"plugin", "list"}, environment).code, 0);
}

TEST_F(Cli, YamlErrorsPointAtTheLine) {
  text("bad.yaml", "version: 1\njobs:\n  - op: kmeens\n    input: {x: p.npy}\n    k: 2\n");
  expect_error({"run", "bad.yaml"}, 3, "config", "kmeens");
  const Finished done = run({"run", "bad.yaml"});
  EXPECT_EQ(done.err.rfind("bad.yaml:3:9: ", 0), 0u) << done.err;
  EXPECT_NE(done.err.find("^"), std::string::npos) << done.err;
  EXPECT_NE(done.err.find("did you mean 'kmeans'"), std::string::npos) << done.err;
  const Json error = run({"run", "bad.yaml", "--json"}).json()["error"];
  EXPECT_EQ(error["line"], 3);
  EXPECT_EQ(error["column"], 9);
  text("out.yaml",
       "version: 1\njobs:\n  - op: kmeans\n    input: {x: p.npy}\n    output: {labels: a.txt}\n"
       "    k: 2\n");
  expect_error({"run", "out.yaml"}, 3, "config", ".npy");
  text("ok.yaml", "version: 1\njobs:\n  - op: kmeans\n    input: {x: p.npy}\n    k: 2\n");
  expect_error({"run", "ok.yaml", "--set", "nonsense"}, 2, "usage", "nonsense");
  expect_error({"run", "ok.yaml", "--set", "jobs.0.kk=2"}, 3, "config", "kk");
  expect_error({"run", "ok.yaml"}, 1, "io", "");
}

TEST_F(Cli, OutputsAreCheckedBeforeWork) {
  array("points.npy", {10, 2});
  expect_error({"kmeans", "points.npy", "-k", "2", "--labels", "nowhere/l.npy"}, 1, "io",
               "nowhere");
  array("h.npy", {1, 1, 4, 8});
  expect_error({"attention", "h.npy", "h.npy", "h.npy", "o.npy", "--dtype", "bf16"}, 2, "usage",
               "bf16");
  EXPECT_FALSE(exists("o.npy"));
}

/// True once the process catches SIGINT.
bool catches_interrupt(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind("SigCgt:", 0) == 0)
      return (std::stoull(line.substr(7), nullptr, 16) >> (SIGINT - 1) & 1) != 0;
  return false;
}

class Interrupt : public Cli {
 protected:
  /// Interrupts a command at work and expects that it leaves nothing behind.
  void expect_interrupted(std::vector<std::string> command, const std::string &output) {
    command.insert(command.begin(), program());
    for (const bool json : {false, true}) {
      if (json) command.push_back("--json");
      const pid_t pid = start(command);
      ASSERT_GT(pid, 0);
      while (!catches_interrupt(pid)) usleep(1000);
      usleep(300000);  // well into the work, which would take minutes
      kill(pid, SIGINT);
      const Finished done = finish(pid);
      EXPECT_EQ(done.code, 130) << done.err;
      if (json)
        EXPECT_EQ(done.json()["error"]["code"], "cancelled");
      else
        EXPECT_NE(done.err.find("interrupted"), std::string::npos) << done.err;
      EXPECT_FALSE(exists(output));
    }
    std::size_t files = 0;
    for (const auto &entry : fs::directory_iterator(scratch.path()))
      if (const auto name = entry.path().filename(); name != ".stdout" && name != ".stderr")
        ++files;
    EXPECT_EQ(files, 1u) << "only the input may be left";
  }
};

TEST_F(Interrupt, OfWorkThatPolls) {
  array("points.npy", {200000, 32});
  expect_interrupted(
      {"kmeans", "points.npy", "-k", "4000", "--backend", "reference", "--labels", "labels.npy"},
      "labels.npy");
}

TEST_F(Interrupt, OfWorkThatDoesNotPoll) {
  array("q.npy", {1, 8, 8192, 64});
  expect_interrupted({"attention", "q.npy", "q.npy", "q.npy", "out.npy", "--backend", "reference"},
                     "out.npy");
}

}  // namespace
}  // namespace switchyard::test
