// SPDX-License-Identifier: Apache-2.0
#include "config/run_config.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

namespace switchyard {
namespace {

const std::string kHead = "version: 1\njobs:\n  - op: ";

Result<RunConfig> parse(const std::string &yaml, const std::vector<std::string> &sets = {}) {
  return parse_run_config(yaml, "/conf/run.yaml", sets);
}

Job job_of(const std::string &yaml) {
  auto run = parse(kHead + yaml);
  if (!run || run->jobs.size() != 1) {
    ADD_FAILURE() << (run ? "not one job" : run.error().text());
    return {};
  }
  return run->jobs[0];
}

using Slots = std::map<std::string, std::string>;

TEST(RunConfig, Quantize) {
  const Job job = job_of(R"(quantize
    name: pack
    input: ../w.npz:layer.0
    output: /out/w.safetensors
    format: MLX_Affine4
    group_size: 128
    granularity: row
    scale: absmax
    nonfinite: saturate
    dtype: bf16
    tensors: {include: "*.weight", exclude: ['*embed*', "lm_head?"]}
    compare: reference
    compare_limit: 1e6
    repeat: 3
)");
  EXPECT_EQ(job.name, "pack");
  EXPECT_EQ(job.op, "quantize");
  EXPECT_EQ(job.line, 3);
  EXPECT_EQ(job.inputs, (Slots{{"x", "/w.npz:layer.0"}}));
  EXPECT_EQ(job.outputs, (Slots{{"out", "/out/w.safetensors"}}));
  EXPECT_EQ(job.dtype, "bf16");
  EXPECT_EQ(job.quantize.format, "mlx_affine4");
  EXPECT_EQ(job.quantize.group_size, 128);
  EXPECT_EQ(job.quantize.granularity, "row");
  EXPECT_EQ(job.quantize.scale, "absmax");
  EXPECT_EQ(job.quantize.nonfinite, "saturate");
  EXPECT_EQ(job.compare, (std::vector<std::string>{"reference"}));
  EXPECT_EQ(job.compare_limit, 1'000'000);
  EXPECT_EQ(job.repeat, 3);
  EXPECT_TRUE(job.tensors.given);
  EXPECT_TRUE(job.tensors.matches("encoder.layer.0.weight"));
  EXPECT_FALSE(job.tensors.matches("encoder.layer.0.bias"));
  EXPECT_FALSE(job.tensors.matches("word_embeddings.weight"));
}

/// What a file leaves out equals what the C++ interface leaves out.
TEST(RunConfig, DefaultsAreTheStructs) {
  const Job q = job_of("quantize\n    input: a.npy\n    format: q4_0\n");
  const QuantizeOptions qo;
  EXPECT_EQ(q.name, "job 1");
  EXPECT_EQ(q.quantize.group_size, qo.group_size);
  EXPECT_EQ(q.quantize.granularity, qo.granularity);
  EXPECT_EQ(q.quantize.scale, qo.scale);
  EXPECT_EQ(q.quantize.nonfinite, qo.nonfinite);
  EXPECT_EQ(q.dtype, "");
  EXPECT_EQ(q.repeat, 1);
  EXPECT_EQ(q.compare_limit, 0);
  EXPECT_TRUE(q.outputs.empty());
  EXPECT_FALSE(q.tensors.given);
  const Job k = job_of("kmeans\n    input: a.npy\n    k: 3\n");
  const KMeansOptions ko;
  EXPECT_EQ(k.kmeans.k, 3);
  EXPECT_EQ(k.kmeans.init, ko.init);
  EXPECT_EQ(k.kmeans.n_init, ko.n_init);
  EXPECT_EQ(k.kmeans.max_iter, ko.max_iter);
  EXPECT_EQ(k.kmeans.tol, ko.tol);
  EXPECT_EQ(k.kmeans.seed, ko.seed);
  EXPECT_EQ(k.kmeans.int8, ko.int8);
  const Job a = job_of("attention\n    input: [q.npy, k.npy, v.npy]\n");
  const AttentionOptions ao;
  EXPECT_EQ(a.attention.causal, ao.causal);
  EXPECT_EQ(a.attention.window, ao.window);
  EXPECT_EQ(a.attention.softcap, ao.softcap);
  EXPECT_TRUE(std::isnan(a.attention.scale));
  EXPECT_EQ(a.attention.return_lse, ao.return_lse);
}

TEST(RunConfig, Kmeans) {
  const Job job = job_of(R"(kmeans
    input: {x: p.npy, sample_weight: w.npy}
    output: {labels: l.npy, centroids: c.npy, counts: n.npy}
    k: 64
    init: start.npy
    n_init: 4
    max_iter: 10
    tol: 0
    seed: 9223372036854775807
    int8: true
)");
  EXPECT_EQ(
      job.inputs,
      (Slots{{"x", "/conf/p.npy"}, {"sample_weight", "/conf/w.npy"}, {"init", "/conf/start.npy"}}));
  EXPECT_EQ(
      job.outputs,
      (Slots{{"labels", "/conf/l.npy"}, {"centroids", "/conf/c.npy"}, {"counts", "/conf/n.npy"}}));
  EXPECT_EQ(job.kmeans.k, 64);
  EXPECT_EQ(job.kmeans.init, "given");
  EXPECT_EQ(job.kmeans.seed, 9223372036854775807u);
  EXPECT_TRUE(job.kmeans.int8);
  EXPECT_EQ(job_of("kmeans\n    input: a.npy\n    k: 3\n    init: k-means||\n").kmeans.init,
            "k-means||");
}

TEST(RunConfig, Attention) {
  const Job job = job_of(R"(attention
    input: {q: q.npy, k: k.npy, v: v.npy, mask: m.npy, sinks: s.npy}
    output: {out: o.npy, lse: l.npy}
    causal: true
    window: 16
    softcap: 30
    scale: 0.125
)");
  EXPECT_EQ(job.inputs.size(), 5u);
  EXPECT_TRUE(job.attention.return_lse);
  EXPECT_EQ(job.attention.causal, SY_CAUSAL_BOTTOM_RIGHT);
  EXPECT_EQ(job.attention.window, 16);
  EXPECT_EQ(job.attention.softcap, 30);
  EXPECT_EQ(job.attention.scale, 0.125f);
  const auto causal = [](const std::string &word) {
    return job_of("attention\n    input: [q, k, v]\n    causal: " + word + "\n").attention.causal;
  };
  EXPECT_EQ(causal("false"), SY_CAUSAL_NONE);
  EXPECT_EQ(causal("none"), SY_CAUSAL_NONE);
  EXPECT_EQ(causal("top_left"), SY_CAUSAL_TOP_LEFT);
  EXPECT_EQ(causal("bottom_right"), SY_CAUSAL_BOTTOM_RIGHT);
}

TEST(RunConfig, ExamplesAreSound) {
  int files = 0;
  const std::string folder = std::string(SWITCHYARD_SOURCE_DIR) + "/config/examples";
  std::map<std::string, int> ops;
  for (const auto &entry : std::filesystem::directory_iterator(folder)) {
    auto run = load_run_config(entry.path().string());
    ASSERT_TRUE(run.has_value()) << run.error().text();
    EXPECT_EQ(run->directory, std::filesystem::canonical(folder).string());
    for (const Job &job : run->jobs) ++ops[job.op];
    ++files;
  }
  EXPECT_GE(files, 4);
  EXPECT_EQ(ops.size(), 4u) << "an example of every operation";
}

void expect_error(const std::string &yaml, int line, int column, const std::string &message,
                  const std::string &excerpt = "") {
  SCOPED_TRACE(yaml);
  auto run = parse(yaml);
  ASSERT_FALSE(run.has_value());
  const Error &e = run.error();
  EXPECT_EQ(e.code, ErrorCode::config);
  EXPECT_EQ(e.file, "/conf/run.yaml");
  EXPECT_EQ(e.message, message);
  EXPECT_EQ(e.line, line);
  EXPECT_EQ(e.column, column);
  if (!excerpt.empty()) {
    EXPECT_EQ(e.excerpt, excerpt);
  }
}

TEST(RunConfigErrors, HavePlaceCaretAndSuggestion) {
  const std::string job = "jobs: [{op: dequantize, input: a.npz}]\n";
  expect_error("version: 1\nengine:\n  polcy: adaptive\n" + job, 3, 3,
               "unknown key 'polcy' in engine; did you mean 'policy'?",
               "    polcy: adaptive\n    ^~~~~");
  expect_error("version: 1\nengine: {policy: adaptiv}\n" + job, 2, 18,
               "policy: unknown value 'adaptiv'; did you mean 'adaptive'?",
               "  engine: {policy: adaptiv}\n                   ^~~~~~~");
  expect_error(
      "version: 1\nengine:\n  policy: zzz\n" + job, 3, 11,
      "policy: unknown value 'zzz'; one of adaptive, benchmark, thresholds, fixed, frozen");
  expect_error("version: 1\nengine:\n  threads: two\n" + job, 3, 12,
               "threads: expected an integer, found 'two'", "    threads: two\n             ^~~");
  expect_error("version: 1\nengine:\n  threads: '2'\n" + job, 3, 12,
               "threads: expected an integer, found the text '2'");
  expect_error("version: 1\nengine:\n  threads: 2.5\n" + job, 3, 12,
               "threads: expected an integer, found '2.5'");
  expect_error("version: 1\nengine:\n  threads: -1\n" + job, 3, 12,
               "threads: -1 is not in 0..4096");
  expect_error("version: 1\nengine:\n  threads:\n  strict: true\n" + job, 3, 3,
               "threads: expected an integer, found nothing");
  expect_error("version: 1\nengine:\n  threads: [1]\n" + job, 3, 12,
               "threads: expected an integer, found a list");
  expect_error("version: 1\nengine:\n  strict: yes\n" + job, 3, 11,
               "strict: expected true or false, found 'yes'");
  expect_error("version: 1\nengine:\n  margin: 1.5\n" + job, 3, 11, "margin: 1.5 is not in 0..1");
  expect_error("version: 1\nengine:\n  margin: .nan\n" + job, 3, 11,
               "margin: expected a number, found '.nan'");
  expect_error("version: 1\nengine:\n  preset: sped\n" + job, 3, 11,
               "preset: unknown value 'sped'; did you mean 'speed'?");
  expect_error("version: 1\nengine:\n  pin: [a]\n" + job, 3, 8,
               "pin: expected a mapping of texts, found a list");
  expect_error("version: 1\nengine:\n  pin: {kmeans: {a: b}}\n" + job, 3, 17,
               "kmeans: expected a text, found a mapping");
  expect_error("version: 1\nengine:\n  preferences: [{backend: a, min: 3}]\n" + job, 3, 30,
               "unknown key 'min' in preferences");
  expect_error("version: 1\nengine:\n  preferences: [{min_size: 3}]\n" + job, 3, 17,
               "preferences: the key 'backend' is missing");
  expect_error("version: 1\nengine:\n  preferences: avx2\n" + job, 3, 16,
               "preferences: expected a list, found 'avx2'");
  expect_error("version: 1\nengine:\n  plugins: ['']\n" + job, 3, 13,
               "plugins: expected a file name, found the text ''");
  expect_error("version: 1\nengine: fast\n" + job, 2, 9,
               "engine: expected a mapping, found 'fast'");
}

TEST(RunConfigErrors, VersionsAndRoots) {
  expect_error("version: 2\nnew: thing\n", 1, 10, "version 2 is not known; write 'version: 1'");
  expect_error("jobs: []\n", 1, 1, "the file: the key 'version' is missing");
  expect_error("version: 1\n", 1, 1, "the file: the key 'jobs' is missing");
  expect_error("version: 1\njobs: []\n", 2, 1, "jobs: there is none");
  expect_error("version: 1\njobs: {a: b}\n", 2, 7, "jobs: expected a list, found a mapping");
  expect_error("version: 1\njob: []\n", 2, 1,
               "unknown key 'job' in the file; did you mean 'jobs'?");
  expect_error("version: [1]\njobs: []\n", 1, 10, "version: expected one of 1, found a list");
}

TEST(RunConfigErrors, Jobs) {
  expect_error("version: 1\njobs: [x]\n", 2, 8, "job 1: expected a mapping, found 'x'");
  expect_error("version: 1\njobs:\n- input: a.npy\n", 3, 3, "job 1: the key 'op' is missing");
  expect_error("version: 1\njobs:\n- op:\n", 3, 3, "op: expected an operation, found nothing");
  expect_error(kHead + "kmean\n", 3, 9, "op: unknown operation 'kmean'; did you mean 'kmeans'?",
               "    - op: kmean\n          ^~~~~");
  expect_error(kHead + "zzzzzz\n", 3, 9,
               "op: unknown operation 'zzzzzz'; one of quantize, dequantize, kmeans, attention");
  expect_error(kHead + "kmeans\n    k: 3\n", 3, 5, "jobs: kmeans: the key 'input' is missing");
  expect_error(kHead + "kmeans\n    input: a.npy\n", 3, 5, "jobs: kmeans: the key 'k' is missing");
  expect_error(kHead + "kmeans\n    input: a.npy\n    k: 0\n", 5, 8, "k: 0 is below 1");
  expect_error(kHead + "kmeans\n    input: a.npy\n    k: 9223372036854775808\n", 5, 8,
               "k: expected an integer, found '9223372036854775808'");
  expect_error(kHead + "kmeans\n    input: a.npy\n    k: 3\n    init: kmeans++\n", 6, 11,
               "init: unknown rule 'kmeans++'; did you mean 'k-means++'?");
  expect_error(kHead + "kmeans\n    input: a.npy\n    k: 3\n    output: l.npy\n", 6, 13,
               "output: expected a mapping of file names: labels, centroids, counts, picture, "
               "found 'l.npy'");
  expect_error(kHead + "kmeans\n    input: a.npy\n    k: 3\n    format: q4_0\n", 6, 5,
               "unknown key 'format' in jobs: kmeans");
  expect_error(kHead + "kmeans\n    input: a.npy\n    k: 3\n    tol: -1\n", 6, 10,
               "tol: -1 is below 0");
  expect_error(
      kHead + "quantize\n    input: a.npy\n    format: q4_1000\n", 5, 13,
      "format: unknown value 'q4_1000'; one of " + [] {
        auto run = parse(kHead + "quantize\n    input: a.npy\n    format: ''\n");
        const std::string &m = run.error().message;
        return m.substr(m.find("one of ") + 7);
      }());
  expect_error(kHead + "attention\n    input: q.npy\n", 4, 12,
               "input: expected a mapping of file names: q, k, v, mask, sinks, found 'q.npy'");
  expect_error(kHead + "attention\n    input: [q.npy, k.npy]\n", 4, 12,
               "input: expected 3 to 5 files, found 2");
  expect_error(kHead + "attention\n    input: {q: q.npy, k: k.npy}\n", 4, 12,
               "input: the key 'v' is missing");
  expect_error(
      kHead + "quantize\n    input: a\n    format: q4_0\n    tensors: {}\n    output: o.npz\n", 7,
      13, "output: a job over a model's tensors writes a .safetensors file");
  expect_error(
      "version: 1\njobs:\n- {op: dequantize, input: a, name: x}\n- {op: dequantize, input: a, "
      "name: x}\n",
      4, 36, "two jobs are named 'x'");
}

TEST(RunConfig, FilesThatCannotBeRead) {
  auto run = load_run_config("/nowhere/run.yaml");
  ASSERT_FALSE(run.has_value());
  EXPECT_EQ(run.error().code, ErrorCode::io);
  EXPECT_EQ(run.error().file, "/nowhere/run.yaml");
}

TEST(Overrides, ChangeWhatTheFileSays) {
  const std::string yaml =
      "version: 1\nengine: {preset: speed}\njobs:\n  - {op: kmeans, input: a.npy, k: 3, name: "
      "one}\n";
  auto run =
      parse(yaml, {"jobs.0.k=32", "jobs.one.seed=5", "engine.preset=embedded",
                   "engine.pin.kmeans=avx2", "jobs.0.output.labels=l.npy", "engine.cache_dir=/c"});
  ASSERT_TRUE(run.has_value()) << run.error().text();
  EXPECT_EQ(run->jobs[0].kmeans.k, 32);
  EXPECT_EQ(run->jobs[0].kmeans.seed, 5u);
  EXPECT_EQ(run->engine.preset, "embedded");
  EXPECT_EQ(run->engine.threads, 1);
  EXPECT_EQ(run->engine.cache_dir, "/c");
  EXPECT_EQ(run->engine.pin.at("kmeans"), "avx2");
  EXPECT_EQ(run->jobs[0].outputs.at("labels"), "/conf/l.npy");
}

TEST(Overrides, ErrorsNameTheText) {
  const std::string yaml = "version: 1\njobs:\n  - {op: kmeans, input: a.npy, k: 3}\n";
  const auto refused = [&](const std::string &text, ErrorCode code, const std::string &message,
                           const std::string &excerpt) {
    SCOPED_TRACE(text);
    auto run = parse(yaml, {"engine.strict=true", text});
    ASSERT_FALSE(run.has_value());
    EXPECT_EQ(to_string(run.error().code), to_string(code));
    EXPECT_EQ(run.error().message, message);
    EXPECT_EQ(run.error().excerpt, excerpt);
    EXPECT_EQ(run.error().file, "");
  };
  refused("engine.thread=2", ErrorCode::config,
          "--set engine.thread=2: unknown key 'thread' in engine; did you mean 'threads'?",
          "  engine.thread=2\n         ^~~~~~");
  refused("engine.threads=two", ErrorCode::config,
          "--set engine.threads=two: threads: expected an integer, found 'two'",
          "  engine.threads=two\n                 ^~~");
  refused("engine.threads=null", ErrorCode::config,
          "--set engine.threads=null: threads: expected an integer, found nothing",
          "  engine.threads=null\n                 ^");
  refused("jobs.0.k=0", ErrorCode::config, "--set jobs.0.k=0: k: 0 is below 1",
          "  jobs.0.k=0\n           ^");
  refused("jobs.0.op=kmean", ErrorCode::config,
          "--set jobs.0.op=kmean: op: unknown operation 'kmean'; did you mean 'kmeans'?",
          "  jobs.0.op=kmean\n            ^~~~~");
  refused("engin.threads=2", ErrorCode::config,
          "--set engin.threads=2: unknown key 'engin' in the file; did you mean 'engine'?",
          "  engin.threads=2\n  ^~~~~");
  refused("jobs.0.input=[a, {b: c}]", ErrorCode::config,
          "--set jobs.0.input=[a, {b: c}]: input: expected a file name, found a mapping",
          "  jobs.0.input=[a, {b: c}]\n                   ^");
  refused("jobs.3.k=1", ErrorCode::usage,
          "--set jobs.3.k=1: no item 3; the list has 1 (counted from 0)", "");
}

}  // namespace
}  // namespace switchyard
