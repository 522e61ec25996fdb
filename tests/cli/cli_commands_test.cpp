// SPDX-License-Identifier: Apache-2.0
// Every command on good input: what it writes, and the documented JSON keys.
#include <cmath>

#include "cli/cli_test_util.hpp"

namespace switchyard::test {
namespace {

void expect_keys(const Json &doc, std::initializer_list<const char *> keys) {
  for (const char *key : keys) EXPECT_TRUE(doc.contains(key)) << key << " in " << doc.dump(2);
}

void expect_result(const Json &doc, const std::string &command) {
  expect_keys(doc, {"schema_version", "command", "op", "backend", "kernel", "requested_backend",
                    "verified", "fallback_reason", "time_ms", "shape", "dtype", "outputs"});
  EXPECT_EQ(doc["schema_version"], 1);
  EXPECT_EQ(doc["command"], command);
  EXPECT_GT(doc["time_ms"].get<double>(), 0);
  EXPECT_NE(doc["kernel"].get<std::string>().find("@"), std::string::npos);
}

TEST_F(Cli, InfoListsMachineBackendsAndPaths) {
  const Json doc = run_json({"info"});
  expect_keys(doc, {"version", "machine", "threads", "backends", "plugins", "search_log"});
  EXPECT_GE(doc["threads"], 1);
  EXPECT_GE(doc["machine"]["cores"], 1);
  bool reference = false;
  for (const auto &name : doc["backends"]) reference = reference || name == "reference";
  EXPECT_TRUE(reference) << doc["backends"];
  EXPECT_FALSE(doc["search_log"].empty());
  const Finished text = run({"info"});
  EXPECT_EQ(text.code, 0);
  EXPECT_NE(text.out.find("reference"), std::string::npos);
}

TEST_F(Cli, InfoMeasuresLimitsOnRequest) {
  const Json doc = run_json({"info", "--limits"});
  ASSERT_FALSE(doc["limits"].empty());
  for (const Json &limit : doc["limits"]) {
    expect_keys(limit, {"what", "where", "bytes", "threads", "gb_per_s"});
    EXPECT_GT(limit["gb_per_s"].get<double>(), 0);
  }
}

TEST_F(Cli, DoctorSaysThatTheYardWorks) {
  const Json doc = run_json({"doctor"});
  EXPECT_EQ(doc["works"], true);
  std::vector<std::string> checks;
  for (const Json &finding : doc["findings"]) {
    expect_keys(finding, {"level", "check", "message", "cure"});
    checks.push_back(finding["check"]);
  }
  for (const char *check : {"plugins", "worker", "quantize", "kmeans", "attention", "threads"})
    EXPECT_NE(std::find(checks.begin(), checks.end(), check), checks.end()) << check;
}

TEST_F(Cli, DoctorNamesACureForEverythingThatIsWrong) {
  // A damaged cache, a plugin that is none, little of everything else to find on this machine.
  const fs::path junk_folder = cache()->path() / "machine";
  fs::create_directories(junk_folder);
  std::ofstream(junk_folder / "limits.json") << "{\"schema\": 1, ";
  fs::create_directories(scratch.path() / "plugins");
  text("plugins/switchyard_junk.so", "not a shared object");
  const std::map<std::string, std::string> environment{
      {"SWITCHYARD_PLUGIN_PATH", (scratch.path() / "plugins").string()}};
  const Json doc = run_json({"doctor"}, environment);
  fs::remove_all(junk_folder);
  bool damaged = false, junk = false, limits = false;
  for (const Json &f : doc["findings"]) {
    if (f["level"] != "ok") {
      EXPECT_TRUE(f["cure"].is_string()) << f;
    }
    const std::string message = f["message"];
    damaged = damaged || (f["level"] == "warning" && message.find("damaged") != std::string::npos);
    junk = junk || message.find("switchyard_junk.so") != std::string::npos;
    limits = limits || f["check"] == "limits";
  }
  EXPECT_TRUE(damaged && junk && limits) << doc.dump(2);
  EXPECT_EQ(run({"doctor", "--backend", "nonesuch"}).code, 4);
  EXPECT_EQ(run({"doctor", "--policy", "nonesuch"}).code, 2);
}

TEST_F(Cli, QuantizeAndDequantizeRestoreShapeAndDtype) {
  array("w.npy", {6, 64});
  for (const std::string out : {"w.npz", "w.safetensors"}) {
    const Json doc = run_json({"quantize", "w.npy", out, "--format", "MLX_AFFINE8"});
    expect_result(doc, "quantize");
    expect_keys(doc, {"format", "group_size", "bytes_before", "bytes_after", "mse", "snr_db"});
    EXPECT_EQ(doc["shape"], Json({6, 64}));
    EXPECT_EQ(doc["format"], "mlx_affine8");
    EXPECT_EQ(doc["bytes_before"], 6 * 64 * 4);
    EXPECT_GT(doc["snr_db"].get<double>(), 40);
    const Json back = run_json({"dequantize", out, "back.npy"});
    expect_result(back, "dequantize");
    const auto restored = read_array(scratch / "back.npy");
    ASSERT_TRUE(restored) << restored.error().text();
    EXPECT_EQ(restored->view().rank(), 2);
    EXPECT_EQ(to_string(restored->dtype()), "f32");
    const auto original = values(6 * 64);
    for (std::size_t i = 0; i < original.size(); ++i)
      ASSERT_NEAR(restored->data<float>()[i], original[i], 0.01) << i;
  }
}

TEST_F(Cli, QuantizedFilesHaveTheDocumentedKeys) {
  array("w.npy", {4, 64});
  EXPECT_EQ(run({"quantize", "w.npy", "t.npz", "--format", "ternary"}).code, 0);
  const auto codes = read_array((scratch / "t.npz") + ":codes");
  ASSERT_TRUE(codes) << codes.error().text();
  EXPECT_EQ(to_string(codes->dtype()), "i8");
  EXPECT_TRUE(read_array((scratch / "t.npz") + ":scales"));
  EXPECT_FALSE(read_array((scratch / "t.npz") + ":biases"));
  EXPECT_EQ(run({"quantize", "w.npy", "q.safetensors", "--format", "q4_0"}).code, 0);
  const auto file = SafetensorsReader::open(scratch / "q.safetensors");
  ASSERT_TRUE(file);
  ASSERT_NE(file->find("blocks"), nullptr);
  EXPECT_EQ(file->find("blocks")->shape, (std::vector<std::int64_t>{4, 36}));
  const Json meta = Json::parse(file->metadata().at("meta"));
  EXPECT_EQ(meta["format"], "q4_0");
  EXPECT_EQ(meta["shape"], Json({4, 64}));
  EXPECT_EQ(meta["dtype"], "f32");
  expect_keys(meta, {"group_size"});
}

TEST_F(Cli, QuantizeCastsOnLoad) {
  array("w.npy", {4, 64});
  const Json doc = run_json(
      {"quantize", "w.npy", "w.safetensors", "--format", "mlx_affine4", "--dtype", "bf16"});
  EXPECT_EQ(doc["dtype"], "bf16");
  const auto scales = read_array((scratch / "w.safetensors") + ":scales");
  ASSERT_TRUE(scales);
  EXPECT_EQ(to_string(scales->dtype()), "bf16");
}

TEST_F(Cli, ModelsKeepTheirNamesAndOtherTensors) {
  model("model.safetensors");
  const Json doc =
      run_json({"quantize", "model.safetensors", "small.safetensors", "--format", "mlx_affine4"});
  EXPECT_EQ(doc["tensors"].size(), 4u);
  EXPECT_EQ(doc["quantized_tensors"], 2);
  EXPECT_EQ(doc["copied_tensors"], 2);
  const auto file = SafetensorsReader::open(scratch / "small.safetensors");
  ASSERT_TRUE(file);
  for (const char *name :
       {"a.weight", "a.scales", "a.biases", "b.weight", "b.scales", "b.biases", "b.bias", "ids"})
    EXPECT_NE(file->find(name), nullptr) << name;
  EXPECT_EQ(to_string(*file->find("a.weight")->dtype), "u32");
  EXPECT_EQ(Json::parse(file->metadata().at("quantization"))["bits"], 4);
  EXPECT_EQ(run({"dequantize", "small.safetensors", "back.safetensors"}).code, 0);
  const auto back = SafetensorsReader::open(scratch / "back.safetensors");
  ASSERT_TRUE(back);
  EXPECT_EQ(back->tensors().size(), 4u);
  EXPECT_EQ(back->find("b.weight")->shape, (std::vector<std::int64_t>{8, 128}));
  EXPECT_EQ(to_string(*back->find("b.weight")->dtype), "f32");
}

TEST_F(Cli, KmeansWritesLabelsAndCentroids) {
  array("points.npy", {200, 5});
  const Json doc = run_json({"kmeans", "points.npy", "-k", "4", "--seed", "3", "--labels",
                             "labels.npy", "--centroids", "centroids.npy"});
  expect_result(doc, "kmeans");
  expect_keys(doc, {"inertia", "n_iter", "converged"});
  EXPECT_EQ(doc["outputs"], (Json{{"labels", "labels.npy"}, {"centroids", "centroids.npy"}}));
  const auto labels = read_array(scratch / "labels.npy");
  ASSERT_TRUE(labels);
  EXPECT_EQ(to_string(labels->dtype()), "i32");
  EXPECT_EQ(labels->elements(), 200);
  // The same from given centroids converges at once to the same inertia.
  const Json again =
      run_json({"kmeans", "points.npy", "-k", "4", "--init", "centroids.npy", "--tol", "0"});
  EXPECT_LE(again["inertia"].get<double>(), doc["inertia"].get<double>());
}

TEST_F(Cli, EveryBackendGivesTheSameKmeans) {
  array("points.npy", {300, 3});
  Json first;
  const Json info = run_json({"info"});
  for (const Json &name : info["backends"]) {
    const std::string backend = name.get<std::string>();
    const Json doc = run_json({"kmeans", "points.npy", "-k", "7", "--backend", backend});
    EXPECT_EQ(doc["backend"], backend);
    EXPECT_EQ(doc["requested_backend"], backend);
    if (first.is_null()) first = doc;
    EXPECT_EQ(doc["inertia"], first["inertia"]) << backend;
    EXPECT_EQ(doc["n_iter"], first["n_iter"]) << backend;
  }
}

TEST_F(Cli, AttentionWritesItsResult) {
  array("q.npy", {1, 4, 6, 8}, 1);
  array("k.npy", {1, 2, 9, 8}, 2);
  array("v.npy", {1, 2, 9, 5}, 3);
  array<unsigned char>("mask.npy", {6, 9}, std::vector<unsigned char>(54, 1), dtypes::boolean);
  const Json doc =
      run_json({"attention", "q.npy", "k.npy", "v.npy", "out.npy", "--causal", "--window", "4",
                "--softcap", "20", "--scale", "0.3", "--mask", "mask.npy"});
  expect_result(doc, "attention");
  const auto out = read_array(scratch / "out.npy");
  ASSERT_TRUE(out);
  ASSERT_EQ(out->elements(), 4 * 6 * 5);
  for (std::int64_t i = 0; i < out->elements(); ++i)
    EXPECT_TRUE(std::isfinite(out->data<float>()[i]));
}

TEST_F(Cli, ExplainNamesCandidatesAndARule) {
  const Json doc = run_json({"explain", "kmeans", "n=1000,d=16,k=8"});
  EXPECT_EQ(doc["command"], "explain");
  EXPECT_EQ(doc["op"], "kmeans.step");
  expect_keys(doc, {"shape", "policy", "chosen", "rule", "store", "candidates"});
  EXPECT_FALSE(doc["candidates"].empty());
  const Finished text = run({"explain", "attention", "lq=16", "lkv=16", "d=32"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_NE(text.out.find("@"), std::string::npos);
}

TEST_F(Cli, BenchTimesBackends) {
  const Json doc = run_json({"bench", "quantize", "n=4096,format=ternary", "--seconds", "0.02"});
  ASSERT_EQ(doc["shapes"].size(), 1u);
  const Json &row = doc["shapes"][0];
  EXPECT_EQ(row["op"], "quantize");
  ASSERT_FALSE(row["results"].empty());
  for (const Json &result : row["results"]) {
    expect_keys(result, {"backend", "kernel", "verified", "median_ms", "min_ms", "samples"});
    EXPECT_LE(result["min_ms"], result["median_ms"]);
  }
  const Json one =
      run_json({"bench", "kmeans", "n=500,d=4,k=3", "--backend", "reference", "--seconds", "0.01"});
  EXPECT_EQ(one["shapes"][0]["results"].size(), 1u);
}

TEST_F(Cli, PluginListShowsEveryFile) {
  const Json doc = run_json({"plugin", "list"});
  ASSERT_FALSE(doc["plugins"].empty());
  for (const Json &plugin : doc["plugins"])
    expect_keys(plugin, {"id", "version", "path", "content_hash", "status", "reason", "instances",
                         "kernels"});
}

TEST_F(Cli, RunExecutesJobsAndWritesMetrics) {
  array("points.npy", {128, 4});
  model("model.safetensors");
  array("q.npy", {2, 2, 8, 16});
  text("jobs.yaml", R"(version: 1
jobs:
  - name: clusters
    op: kmeans
    input: {x: points.npy}
    output: {labels: labels.npy}
    k: 3
    compare: [reference]
  - name: weights
    op: quantize
    input: {x: model.safetensors}
    output: {out: small.safetensors}
    format: ternary
    tensors: {exclude: ["a.*"]}
    compare: [reference]
  - name: heads
    op: attention
    input: {q: q.npy, k: q.npy, v: q.npy}
    output: {out: out.npy}
    compare: [reference]
)");
  const Json doc =
      run_json({"run", "jobs.yaml", "--set", "jobs.clusters.k=5", "--metrics", "metrics.json"});
  EXPECT_EQ(doc["right"], true);
  ASSERT_EQ(doc["jobs"].size(), 3u);
  for (const Json &job : doc["jobs"]) {
    expect_keys(job, {"name", "op", "backend", "kernel", "verified", "time_ms", "why", "shape",
                      "dtype", "outputs", "compared"});
    EXPECT_NE(job["why"], "") << job["name"];
    EXPECT_EQ(job["compared"][0]["backend"], "reference");
    EXPECT_EQ(job["compared"][0]["equal"], true) << job.dump(2);
  }
  EXPECT_EQ(doc["jobs"][0]["k"], 5);
  EXPECT_EQ(doc["jobs"][1]["tensors"].size(), 1u);
  for (const char *name : {"labels.npy", "small.safetensors", "out.npy"}) EXPECT_TRUE(exists(name));

  const Json metrics = run_json({"metrics", "metrics.json"});
  EXPECT_GE(metrics["metrics"]["total_operations"], 3);
  const Finished text = run({"metrics", "metrics.json"});
  EXPECT_EQ(text.code, 0);
  EXPECT_NE(text.out.find("kmeans.step"), std::string::npos) << text.out;
}

TEST_F(Cli, TextAnswersFirst) {
  array("w.npy", {8, 64});
  const Finished done = run({"quantize", "w.npy", "w.npz", "--format", "q8_0"});
  EXPECT_EQ(done.code, 0) << done.err;
  const std::string first = done.out.substr(0, done.out.find('\n'));
  EXPECT_NE(first.find("took"), std::string::npos) << first;
  EXPECT_NE(first.find("verified"), std::string::npos) << first;
  EXPECT_EQ(done.err, "") << "nothing but logs and progress belongs there";
}

TEST_F(Cli, HelpAndVersion) {
  const Finished version = run({"--version"});
  EXPECT_EQ(version.code, 0);
  EXPECT_NE(version.out.find('.'), std::string::npos);
  const Finished help = run({"kmeans", "--help"});
  EXPECT_EQ(help.code, 0);
  for (const char *option : {"-k", "--init", "--n-init", "--max-iter", "--tol", "--seed",
                             "--labels", "--backend", "--json"})
    EXPECT_NE(help.out.find(option), std::string::npos) << option;
}

}  // namespace
}  // namespace switchyard::test
