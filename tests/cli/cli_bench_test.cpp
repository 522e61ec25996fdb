// SPDX-License-Identifier: Apache-2.0
// Measuring from the command line: sweeps, budgets, files to resume from; limits and bottlenecks.
#include <chrono>
#include <set>

#include "cli/cli_test_util.hpp"

namespace switchyard::test {
namespace {

std::vector<std::string> shapes_of(const Json &doc) {
  std::vector<std::string> out;
  for (const Json &row : doc["shapes"]) out.push_back(row["shape"].get<std::string>());
  return out;
}

class CliBench : public Cli {
 protected:
  /// One cheap backend, little time.
  Json bench(std::vector<std::string> words) {
    words.insert(words.begin(), "bench");
    for (const char *word : {"--backend", "reference", "--seconds", "1ms"}) words.push_back(word);
    return run_json(words);
  }
};

TEST_F(CliBench, SweepsMultiplyAndAdd) {
  EXPECT_EQ(shapes_of(bench({"quantize", "n=1024..8192,format=q8_0"})),
            (std::vector<std::string>{"n=1024,format=q8_0", "n=2048,format=q8_0",
                                      "n=4096,format=q8_0", "n=8192,format=q8_0"}));
  EXPECT_EQ(shapes_of(bench({"kmeans", "d=2,k=3", "--n", "1e1..1e3:10"})),
            (std::vector<std::string>{"d=2,k=3,n=10", "d=2,k=3,n=100", "d=2,k=3,n=1000"}));
  EXPECT_EQ(shapes_of(bench({"kmeans", "--n", "16", "--d", "1..2", "--k", "2..6:+2"})),
            (std::vector<std::string>{"d=1,k=2,n=16", "d=1,k=4,n=16", "d=1,k=6,n=16",
                                      "d=2,k=2,n=16", "d=2,k=4,n=16", "d=2,k=6,n=16"}));
}

TEST_F(CliBench, BadSweepsAndTimesAreUsageErrors) {
  const auto refused = [&](std::vector<std::string> words, const std::string &part) {
    words.insert(words.begin(), "bench");
    expect_error(words, 2, "usage", part);
  };
  refused({"kmeans", "n=10..5"}, "downwards");
  refused({"kmeans", "n=1..5:1"}, "factor");
  refused({"kmeans", "n=1..5:"}, "':'");
  refused({"kmeans", "n=1..5:+0"}, "step");
  refused({"kmeans", "n=0..5"}, "nowhere");
  refused({"kmeans", "n=..5"}, "missing");
  refused({"kmeans", "n=1..1e9:+1"}, "10000");
  refused({"kmeans", "n=1..100:+1,d=1..101:+1"}, "10000");
  refused({"kmeans", "n=1..x"}, "x");
  refused({"kmeans", "n=10", "--seconds", "0"}, "--seconds");
  refused({"kmeans", "n=10", "--budget", "5 minutes"}, "--budget");
  EXPECT_EQ(run({"bench", "kmeans", "n=10", "--csv", "--json"}).code, 2);
}

TEST_F(CliBench, EveryBackendIsComparedWithTheReference) {
  const Json doc =
      run_json({"bench", "attention", "b=1,hq=2,hkv=1,lq=5,lkv=9,d=16", "--seconds", "5ms"});
  const Json &row = doc["shapes"][0];
  std::set<std::string> backends;
  for (const Json &r : row["results"]) {
    EXPECT_EQ(r["compared"], true);
    EXPECT_EQ(r["wrong"], nullptr) << r["wrong"];
    EXPECT_LE(r["min_ms"], r["median_ms"]);
    EXPECT_LE(r["median_ms"], r["p95_ms"]);
    EXPECT_GT(r["gflop_per_s"].get<double>(), 0);
    backends.insert(r["backend"]);
  }
  EXPECT_TRUE(backends.contains("reference"));
  EXPECT_EQ(backends.size() + row["refused"].size(), run_json({"info"})["backends"].size());
}

TEST_F(CliBench, KernelsMayUseTheThreads) {
  const std::map<std::string, std::string> environment{
      {"SWITCHYARD_PLUGIN_PATH", SWITCHYARD_BINARY_DIR "/tests/plugins/needs_threads"}};
  std::vector<std::string> words{"bench",     "kmeans.assign", "n=50,d=3,k=2",
                                 "--backend", "needs_threads", "--seconds",
                                 "1ms",       "--json",        "--threads"};
  for (const char *threads : {"2", "3"}) {
    words.push_back(threads);
    const Finished done = run(words, environment);
    words.pop_back();
    const Json doc = done.json();
    EXPECT_EQ(doc["shapes"][0]["results"].size(), threads == std::string("3")) << doc;
  }
}

TEST_F(CliBench, WrongAnswersAreFound) {
  // Too large a problem for the gate: only the comparison on this very one tells.
  const std::map<std::string, std::string> environment{
      {"SWITCHYARD_PLUGIN_PATH", SWITCHYARD_BINARY_DIR "/tests/plugins/wrong_when_large"}};
  const std::vector<std::string> words{"bench",     "kmeans.assign", "n=200001,d=1,k=2",
                                       "--seconds", "1ms",           "--json"};
  const Finished done = run(words, environment);
  EXPECT_EQ(done.code, 5) << done.err;
  int wrong = 0;
  const Json doc = done.json();
  for (const Json &r : doc["shapes"][0]["results"]) {
    wrong += r["wrong"].is_string();
    EXPECT_EQ(r["wrong"].is_string(), r["backend"] == "wrong_when_large") << r;
  }
  EXPECT_EQ(wrong, 1);
}

TEST_F(CliBench, CsvHasARowForEachBackendAndShape) {
  const Finished done = run({"bench", "quantize", "n=1024..2048,format=ternary", "--seconds", "1ms",
                             "--csv", "--backend", "reference"});
  ASSERT_EQ(done.code, 0) << done.err;
  std::istringstream lines(done.out);
  std::string line;
  std::getline(lines, line);
  const auto columns = std::count(line.begin(), line.end(), ',');
  EXPECT_NE(line.find("median_ms"), std::string::npos);
  int rows = 0;
  for (; std::getline(lines, line); ++rows) {
    std::string bare;  // without the commas of quoted texts
    bool inside = false;
    for (const char c : line) {
      if (c == '"') inside = !inside;
      if (!inside) bare += c;
    }
    EXPECT_EQ(std::count(bare.begin(), bare.end(), ','), columns) << line;
  }
  EXPECT_EQ(rows, 2);
}

TEST_F(CliBench, ResumeTakesWhatIsThereAndAddsTheRest) {
  const std::vector<std::string> first{
      "quantize", "n=1024..2048,format=q4_0", "--resume", "bench.json", "--label", "here"};
  const Json one = bench(first);
  EXPECT_EQ(one["resumed"], 0);
  const std::string kept = slurp(scratch / "bench.json");
  const Json two = bench({"quantize", "n=1024..4096,format=q4_0", "--resume", "bench.json"});
  EXPECT_EQ(two["resumed"], 2);
  EXPECT_EQ(two["label"], "here");
  ASSERT_EQ(two["shapes"].size(), 3u);
  EXPECT_EQ(two["shapes"][0]["results"][0]["min_ms"], one["shapes"][0]["results"][0]["min_ms"]);
  EXPECT_EQ(Json::parse(slurp(scratch / "bench.json"))["shapes"].size(), 3u);
  EXPECT_EQ(Json::parse(kept)["head"]["machine"]["cpu"], one["machine"]["cpu"]);

  // Other circumstances, or a damaged file, are never mixed in and never overwritten.
  expect_error({"bench", "quantize", "n=1024,format=q4_0", "--resume", "bench.json", "--seed", "7"},
               1, "io", "seed differs");
  text("junk.json", "{");
  expect_error({"bench", "quantize", "n=1024,format=q4_0", "--resume", "junk.json"}, 1, "io",
               "damaged");
  EXPECT_EQ(slurp(scratch / "junk.json"), "{");
}

TEST_F(CliBench, ABudgetThatIsOverLeavesTheRestForLater) {
  const Json doc = bench(
      {"quantize", "n=1024..1048576,format=q8_0", "--budget", "1ms", "--resume", "bench.json"});
  EXPECT_GE(doc["shapes"].size(), 1u);
  EXPECT_GE(doc["left_out"].size(), 1u);
  EXPECT_EQ(doc["shapes"].size() + doc["left_out"].size(), 11u);
  const Json more = bench({"quantize", "n=1024..2048,format=q8_0", "--resume", "bench.json"});
  EXPECT_EQ(more["shapes"].size(), 2u);
  EXPECT_GE(more["resumed"].get<int>(), 1);
}

TEST_F(CliBench, LimitsAreKeptAndNamed) {
  const Json measured = run_json({"info", "--limits"});
  for (const Json &limit : measured["compute_limits"])
    EXPECT_GT(limit["gflop_per_s"].get<double>(), 0) << limit;
  std::set<std::string> kinds, moves;
  for (const Json &limit : measured["compute_limits"]) kinds.insert(limit["what"]);
  for (const Json &limit : measured["limits"]) moves.insert(limit["what"]);
  EXPECT_TRUE(kinds.contains("f32") && kinds.contains("f64"));
  EXPECT_EQ(moves, (std::set<std::string>{"copy", "read", "write"}));
  EXPECT_TRUE(fs::exists(measured["limits_file"].get<std::string>()));
  EXPECT_FALSE(run_json({"info"})["limits"].empty()) << "kept from before";

  const Json doc = bench({"quantize", "n=65536,format=q8_0"});
  EXPECT_NE(doc["shapes"][0]["results"][0]["limited_by"].get<std::string>().find("-bound"),
            std::string::npos);

  array("points.npy", {64, 4});
  text("jobs.yaml", "version: 1\njobs: [{op: kmeans, input: points.npy, k: 3}]\n");
  run_json({"run", "jobs.yaml", "--metrics", "metrics.json"});
  const Finished shown = run({"metrics", "metrics.json"});
  EXPECT_EQ(shown.code, 0) << shown.err;
  EXPECT_NE(shown.out.find("-bound"), std::string::npos) << shown.out;
  // A file of another machine is shown as it is.
  Json foreign = Json::parse(slurp(scratch / "metrics.json"));
  foreign["machine"] = "elsewhere";
  for (Json &backends : foreign["operations"])
    for (Json &m : backends)
      for (Json &size : m["sizes"]) size["bound"] = size["text"] = "";
  text("foreign.json", foreign.dump());
  const Finished other = run({"metrics", "foreign.json"});
  EXPECT_EQ(other.code, 0) << other.err;
  EXPECT_NE(other.out.find("another machine"), std::string::npos) << other.out;
}

}  // namespace
}  // namespace switchyard::test
