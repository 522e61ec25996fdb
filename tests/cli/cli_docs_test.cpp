// SPDX-License-Identifier: Apache-2.0
// Runs every example of docs/cli.md and docs/reports.md, in order, in one folder. `# exit N` after
// a line is what it must return; otherwise 0.
#include <iomanip>
#include <regex>

#include "cli/cli_test_util.hpp"
#include "config/run_config.hpp"

namespace switchyard::test {
namespace {

struct Example {
  std::string line;
  int code = 0;
};

std::vector<Example> examples(const std::string &path) {
  std::ifstream in(path);
  const std::regex exit_code("#\\s*exit (\\d+)");
  std::vector<Example> out;
  bool inside = false;
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("```", 0) == 0) {
      inside = line == "```sh";
      continue;
    }
    if (!inside || line.empty()) continue;
    Example example{line.substr(0, line.find('#')), 0};
    std::smatch match;
    if (std::regex_search(line, match, exit_code)) example.code = std::stoi(match[1]);
    out.push_back(std::move(example));
  }
  return out;
}

std::vector<std::string> words(const std::string &line) {
  std::istringstream in(line);
  std::vector<std::string> out;
  for (std::string word; in >> std::quoted(word);) out.push_back(word);
  return out;
}

TEST_F(Cli, EveryExampleOfTheDocumentationRuns) {
  array("points.npy", {500, 4});
  array("weights.npy", {8, 128});
  array("q.npy", {1, 2, 16, 32}, 1);
  array("k.npy", {1, 2, 16, 32}, 2);
  array("v.npy", {1, 2, 16, 32}, 3);
  model("model.safetensors");
  text("jobs.yaml", R"(version: 1
jobs:
  - name: clusters
    op: kmeans
    input: {x: points.npy}
    output: {labels: labels.npy}
    k: 8
    compare: [reference]
)");
  auto all = examples(SWITCHYARD_SOURCE_DIR "/docs/cli.md");
  ASSERT_GE(all.size(), 20u);
  const auto reports = examples(SWITCHYARD_SOURCE_DIR "/docs/reports.md");
  ASSERT_GE(reports.size(), 6u);
  all.insert(all.end(), reports.begin(), reports.end());
  for (const Example &example : all) {
    std::vector<std::string> command = words(example.line);
    ASSERT_EQ(command.at(0), "switchyard") << example.line;
    command.erase(command.begin());
    const Finished done = run(command);
    EXPECT_EQ(done.code, example.code) << example.line << "\n" << done.err;
    if (std::find(command.begin(), command.end(), "--json") != command.end()) {
      EXPECT_FALSE(done.json().is_discarded()) << example.line;
      EXPECT_EQ(done.err, "") << example.line;
    }
  }
}

TEST(Quickstart, HoldsTheJobsThatTheDemoReports) {
  const auto config = load_run_config(SWITCHYARD_SOURCE_DIR "/config/quickstart.yaml");
  ASSERT_TRUE(config) << config.error().text();
  std::vector<std::string> names;
  for (const Job &job : config->jobs) {
    names.push_back(job.name);
    EXPECT_EQ(job.compare, std::vector<std::string>{"reference"}) << job.name;
  }
  EXPECT_EQ(names, (std::vector<std::string>{"photo-colours", "weights-mlx4", "weights-ternary",
                                             "text-attention"}));
}

}  // namespace
}  // namespace switchyard::test
