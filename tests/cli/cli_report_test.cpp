// SPDX-License-Identifier: Apache-2.0
// Reports and pictures by the program: what is asked for is there, what cannot be is refused.
// tests/house/report_pages_test.py looks at the pages in a browser.
#include <fmt/format.h>

#include <cmath>
#include <set>

#include "cli/cli_test_util.hpp"
#include "io/png.hpp"

namespace switchyard::test {
namespace {

/// Two colours, a little apart within each.
std::string picture(const std::string &path) {
  std::vector<std::uint8_t> pixels;
  for (int i = 0; i < 8 * 16; ++i)
    for (int c = 0; c < 3; ++c)
      pixels.push_back(static_cast<std::uint8_t>((i % 16 < 6 ? 200 : 20) + (i + c) % 3));
  const std::int64_t shape[] = {8, 16, 3};
  EXPECT_TRUE(
      write_png(path, TensorView(static_cast<const void *>(pixels.data()), dtypes::u8, shape)));
  return path;
}

TEST_F(Cli, KMeansOfAPictureWritesItInTheColoursOfItsClusters) {
  picture(scratch / "in.png");
  const Json doc =
      run_json({"kmeans", "in.png", "-k", "2", "--picture", "out.png", "--centroids", "c.npy"});
  EXPECT_EQ(doc["shape"], Json({128, 3}));
  EXPECT_EQ(doc["outputs"]["picture"], "out.png");
  auto out = read_png(scratch / "out.png");
  auto centroids = read_array(scratch / "c.npy");
  ASSERT_TRUE(out && centroids);
  EXPECT_EQ(shape_text(out->shape()), "[8, 16, 3]");
  std::set<std::string> colours;
  for (int i = 0; i < 128; ++i) {
    const auto *p = out->data<const std::uint8_t>() + 3 * i;
    colours.insert(fmt::format("{} {} {}", p[0], p[1], p[2]));
    // Bright pixels stay bright.
    EXPECT_EQ(p[0] > 100, i % 16 < 6) << i;
  }
  EXPECT_EQ(colours.size(), 2u);
  const float *c = centroids->data<const float>();
  EXPECT_TRUE(colours.contains(
      fmt::format("{} {} {}", std::lround(c[0]), std::lround(c[1]), std::lround(c[2]))));
  array("x.npy", {50, 3});
  expect_error({"kmeans", "x.npy", "-k", "2", "--picture", "out.png"}, 2, "usage", "no .png file");
  expect_error({"kmeans", "in.png", "-k", "2", "--picture", "out.jpg"}, 2, "usage", ".png");
}

TEST_F(Cli, ARunWritesItsPageWithPicturesDecisionsAndMachine) {
  picture(scratch / "in.png");
  text("jobs.yaml", R"(version: 1
jobs:
  - {name: two <colours> & more, op: kmeans, k: 2, input: {x: in.png}, output: {picture: out.png}, compare: [reference]}
)");
  const Finished done = run({"run", "jobs.yaml", "--report", "page.html", "--metrics", "m.json"});
  ASSERT_EQ(done.code, 0) << done.err;
  EXPECT_NE(done.out.find("report: page.html"), std::string::npos);
  const std::string page = slurp(scratch / "page.html");
  for (const char *part :
       {"<!doctype html>", "1 job took", "two &lt;colours&gt; &amp; more", "Who did the work",
        "Decisions", "Machine", "Memory by job", "prefers-color-scheme:dark", "</html>"})
    EXPECT_NE(page.find(part), std::string::npos) << part;
  for (const char *part : {"<script", "http:", "https:", "<colours>", "nan", "inf ms"})
    EXPECT_EQ(page.find(part), std::string::npos) << part;
  std::size_t pictures = 0;
  for (std::size_t at = 0;
       (at = page.find("src=\"data:image/png;base64,iVBOR", at)) != std::string::npos; ++at)
    ++pictures;
  EXPECT_EQ(pictures, 2u);
  const Json metrics = Json::parse(slurp(scratch / "m.json"));
  ASSERT_TRUE(metrics.contains("decisions"));
  EXPECT_GE(metrics["decisions"].size(), 1u);
  EXPECT_GT(metrics["run"]["jobs"][0]["peak_memory_bytes"], 1 << 20);
  EXPECT_TRUE(metrics["run"]["machine"].contains("cpu"));
  EXPECT_TRUE(metrics["run"]["recommendations"].is_array());
  // The same again from the file.
  const Json doc = run_json({"report", "m.json", "-o", "again.html"});
  EXPECT_EQ(doc["decisions"].size(), metrics["decisions"].size());
  EXPECT_EQ(doc["pictures"].size(), 1u);
  EXPECT_NE(doc["summary"].get<std::string>().find("1 job took"), std::string::npos);
  EXPECT_TRUE(exists("again.html"));
  expect_error({"run", "jobs.yaml", "--report", "page.txt"}, 2, "usage", ".html");
}

TEST_F(Cli, ReportRefusesWhatItDoesNotKnow) {
  text("broken.json", "{\"shapes\": [");
  text("other.json", "{\"answer\": 42}");
  text("empty.json", R"({"command": "bench", "shapes": []})");
  text(
      "strange.json",
      R"({"command": "bench", "threads": "two", "shapes": [3, null, {"op": 7, "results": {"a": 1}}]})");
  expect_error({"report", "missing.json"}, 1, "io", "cannot open");
  expect_error({"report", "broken.json"}, 1, "io", "cut short");
  expect_error({"report", "other.json"}, 1, "io", "run --metrics");
  expect_error({"report", "empty.json", "--compare"}, 2, "usage", "two files");
  expect_error({"report", "empty.json", "empty.json", "--compare"}, 2, "usage", "in common");
  expect_error({"report", "empty.json", "-o", "no/such/page.html"}, 1, "io", "cannot write");
  // Members of the wrong type are as if absent.
  for (const char *file : {"empty.json", "strange.json"})
    run_json({"report", file, "-o", "p.html"});
}

TEST_F(Cli, CompareTellsTheRatio) {
  const auto bench = [&](const char *name, double ms) {
    text(name, fmt::format(R"({{"command": "bench", "shapes": [{{"op": "quantize", "shape": "n=32",
      "results": [{{"backend": "avx2", "median_ms": {}}}, {{"backend": "reference", "median_ms": 8}}]}}]}})",
                           ms));
  };
  bench("before.json", 2);
  bench("after.json", 1);
  const Json doc = run_json({"report", "--compare", "before.json", "after.json"});
  const Json &rows = doc["charts"][0]["rows"];
  ASSERT_EQ(rows.size(), 1u);  // what did not change is left out
  EXPECT_EQ(rows[0]["label"], "quantize n=32 on avx2");
  EXPECT_EQ(rows[0]["dots"][0]["value"], 0.5);
  EXPECT_NE(doc["summary"].get<std::string>().find("0 slower by more than 5 %, 1 faster"),
            std::string::npos);
}

TEST_F(Cli, ComparedRowsOfEqualChangeFollowTheirNumbers) {
  const auto bench = [&](const char *name, double ms) {
    std::string shapes;
    for (const int n : {1024, 65536, 256, 16384})
      shapes += fmt::format(
          R"({}{{"op": "quantize", "shape": "n={}", "results": [{{"backend": "avx2", "median_ms": {}}}]}})",
          shapes.empty() ? "" : ",", n, ms);
    text(name, R"({"command": "bench", "shapes": [)" + shapes + "]}");
  };
  bench("before.json", 1);
  bench("after.json", 2);
  const Json doc = run_json({"report", "--compare", "before.json", "after.json"});
  std::string order;
  for (const Json &row : doc["charts"][0]["rows"]) order += row["label"].get<std::string>() + "; ";
  EXPECT_EQ(order,
            "quantize n=256 on avx2; quantize n=1024 on avx2; quantize n=16384 on avx2; "
            "quantize n=65536 on avx2; ");
}

TEST_F(Cli, ARunsSummaryTellsWhatWasSlowerToo) {
  const auto summary = [&](double first, double second) {
    text("m.json", fmt::format(R"({{"command": "run", "jobs": [
      {{"name": "a", "op": "kmeans", "backend": "openmp", "time_ms": 10, "verified": "gate",
        "compared": [{{"backend": "reference", "times_faster": {}, "equal": true}}]}},
      {{"name": "b", "op": "quantize", "backend": "avx2", "time_ms": 1, "verified": "gate",
        "compared": [{{"backend": "avx512", "times_faster": {}, "equal": true}}]}}]}})",
                               first, second));
    return run_json({"report", "m.json", "-o", "p.html"})["summary"].get<std::string>();
  };
  const std::string both = summary(8, 0.5);
  EXPECT_NE(both.find("the largest gain is 8× over reference (a)"), std::string::npos) << both;
  EXPECT_NE(both.find("b took 2× the time of avx512"), std::string::npos) << both;
  EXPECT_EQ(summary(8, 0.95).find("the time of"), std::string::npos);
}

}  // namespace
}  // namespace switchyard::test
