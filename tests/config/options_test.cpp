// SPDX-License-Identifier: Apache-2.0
#include "config/options.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include "config/engine_schema.hpp"
#include "config/run_config.hpp"

namespace switchyard {
namespace {

/// Everything that can be written in YAML, as text, to compare two sets of options.
std::string text_of(const Options &o) {
  std::string out = std::string(to_string(o.policy)) + " " + std::string(to_string(o.numerics)) +
                    " " + std::string(to_string(o.isolation)) + " threads " +
                    std::to_string(o.threads);
  for (const auto &[op, backend] : o.pin) out += " pin " + op + "=" + backend;
  out += o.strict ? " strict" : " lenient";
  for (const auto &p : o.preferences)
    out += " prefer " + p.backend + ">=" + std::to_string(p.min_size);
  for (const auto &p : o.plugin_paths) out += " path " + p;
  out += " cache " + (o.cache_dir ? "'" + *o.cache_dir + "'" : std::string("xdg"));
  out += " isa '" + o.isa + "' share " + std::to_string(o.exploration_share) + " shadow " +
         std::to_string(o.shadow_share) + " margin " + std::to_string(o.margin) + " gate " +
         std::to_string(o.gate_timeout_ms) + " log " + o.log_level;
  return out;
}

Options engine_of(const std::string &yaml) {
  auto run =
      parse_run_config("version: 1\nengine:\n" + yaml + "jobs: [{op: dequantize, input: a.npz}]\n",
                       "/conf/run.yaml");
  if (!run) {
    ADD_FAILURE() << run.error().text();
    return {};
  }
  return run->engine;
}

TEST(Presets, AreTheFilesOfTheFolder) {
  std::vector<std::string> files;
  const std::string folder = std::string(SWITCHYARD_SOURCE_DIR) + "/config/presets";
  for (const auto &entry : std::filesystem::directory_iterator(folder)) {
    files.push_back(entry.path().stem().string());
    std::ifstream in(entry.path());
    const std::string text(std::istreambuf_iterator<char>(in), {});
    EXPECT_EQ(preset_text(files.back()), text) << files.back();
    // A preset is also an ordinary engine file.
    auto direct = load_engine_config(entry.path().string());
    ASSERT_TRUE(direct.has_value()) << direct.error().text();
    EXPECT_EQ(text_of(*direct), text_of(load_preset(files.back()).value()));
  }
  std::sort(files.begin(), files.end());
  const std::vector<std::string> names(preset_names().begin(), preset_names().end());
  EXPECT_EQ(names, files);
  EXPECT_EQ(names, (std::vector<std::string>{"balanced", "development", "embedded", "memory",
                                             "production-cpu", "production-gpu", "speed"}));
}

TEST(Presets, MeanWhatTheirNamesSay) {
  const auto load = [](std::string_view name) {
    auto o = load_preset(name);
    EXPECT_TRUE(o.has_value()) << o.error().text();
    EXPECT_EQ(o->preset, name);
    return *o;
  };
  EXPECT_EQ(text_of(load("balanced")), text_of(Options{}));
  const Options development = load("development");
  EXPECT_EQ(development.pin.at("*"), "reference");
  EXPECT_EQ(development.log_level, "debug");
  EXPECT_TRUE(development.strict);
  const Options gpu = load("production-gpu");
  ASSERT_GE(gpu.preferences.size(), 3u);
  EXPECT_EQ(gpu.preferences[0].backend, "cuda");
  EXPECT_GT(gpu.preferences[0].min_size, 0);
  EXPECT_EQ(gpu.numerics, Numerics::reproducible);
  const Options embedded = load("embedded");
  EXPECT_EQ(embedded.threads, 1);
  EXPECT_EQ(embedded.cache_dir, "");
  EXPECT_EQ(embedded.isolation, Isolation::off);
  EXPECT_EQ(load("speed").numerics, Numerics::tolerant);
  EXPECT_EQ(load("memory").exploration_share, 0);
  EXPECT_EQ(load("production-cpu").policy, Policy::adaptive);
}

TEST(Presets, UnknownOnesAreNamed) {
  auto o = load_preset("production_gpu");
  ASSERT_FALSE(o.has_value());
  EXPECT_EQ(o.error().code, ErrorCode::usage);
  EXPECT_EQ(o.error().message, "unknown preset 'production_gpu'; did you mean 'production-gpu'?");
  EXPECT_FALSE(load_preset("").has_value());
  EXPECT_FALSE(load_preset("../presets/speed").has_value());
}

TEST(EngineYaml, EveryKeyArrives) {
  const Options o = engine_of(R"(
  policy: thresholds
  numerics: tolerant
  isolation: always
  threads: 3
  pin: {kmeans: avx512, attention: openblas}
  strict: true
  preferences: [{backend: 'opencl:0', min_size: 1e6}, {backend: avx2}]
  plugins: [plugins, /opt/x/../y]
  cache_dir: cache
  isa: AVX512_BF16
  exploration_share: 0.5
  margin: 0
  gate_timeout_ms: 5
  log_level: 'off'
)");
  EXPECT_EQ(text_of(o),
            "thresholds tolerant always threads 3 pin attention=openblas pin kmeans=avx512 strict "
            "prefer opencl:0>=1000000 prefer avx2>=0 path /conf/plugins path /opt/y cache "
            "'/conf/cache' isa 'avx512_bf16' share 0.500000 shadow 0.005000 margin 0.000000 gate 5 "
            "log off");
  EXPECT_EQ(engine_of("  pin: reference\n").pin.at("*"), "reference");
  EXPECT_EQ(engine_of("  cache_dir: ''\n").cache_dir, "");
  EXPECT_EQ(engine_of("  cache_dir: null\n").cache_dir, std::nullopt);
  EXPECT_EQ(engine_of("  cache_dir: ~\n").cache_dir, std::nullopt);
  EXPECT_EQ(text_of(engine_of("  threads: 0\n")), text_of(Options{}));
}

/// The defaults of the schema, which the documentation shows, are those of the struct.
TEST(EngineYaml, DefaultsAreTheStructs) {
  std::string yaml;
  for (const config::Field &field : config::engine_section().fields)
    if (!field.fallback.empty())
      yaml += "  " + std::string(field.name) + ": " + std::string(field.fallback) + "\n";
  EXPECT_EQ(text_of(engine_of(yaml)), text_of(Options{}));
}

TEST(EngineYaml, OverridesItsPreset) {
  const Options o = engine_of("  log_level: error\n  preset: development\n");
  EXPECT_EQ(o.preset, "development");
  EXPECT_EQ(o.log_level, "error");
  EXPECT_TRUE(o.strict);
  const Options folded = engine_of("  preset: Production-CPU\n");
  EXPECT_EQ(folded.preset, "production-cpu");
}

class EngineFile : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_NE(::mkdtemp(folder_.data()), nullptr);
    std::ofstream(folder_ + "/engine.yaml") << "version: 1\nengine: {threads: 2, plugins: p}\n";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::string folder_ =
      (std::filesystem::temp_directory_path() / "switchyard-conf-XXXXXX").string();
};

TEST_F(EngineFile, LoadsOverABase) {
  Options base;
  base.preset = "speed";
  auto o = load_engine_config(folder_ + "/engine.yaml", base);
  ASSERT_TRUE(o.has_value()) << o.error().text();
  EXPECT_EQ(o->threads, 2);
  EXPECT_EQ(o->numerics, Numerics::tolerant);
  EXPECT_EQ(o->plugin_paths, (std::vector<std::string>{folder_ + "/p"}));
  auto missing = load_engine_config(folder_ + "/none.yaml");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, ErrorCode::io);
  std::ofstream(folder_ + "/jobs.yaml") << "version: 1\njobs: []\n";
  auto jobs = load_engine_config(folder_ + "/jobs.yaml");
  ASSERT_FALSE(jobs.has_value());
  EXPECT_EQ(jobs.error().line, 2);
}

class Environment : public testing::Test {
 protected:
  static constexpr const char *kNames[] = {"SWITCHYARD_BACKEND", "SWITCHYARD_ISA",
                                           "SWITCHYARD_CACHE_DIR", "SWITCHYARD_LOG",
                                           "SWITCHYARD_PLUGIN_PATH"};
  void SetUp() override { clear(); }
  void TearDown() override { clear(); }
  static void clear() {
    for (const char *name : kNames) ::unsetenv(name);
  }
  static Result<Options> apply(Options o = {}) {
    if (auto s = apply_environment(o); !s) return tl::unexpected(s.error());
    return o;
  }
  static void refused(const char *name, const char *value, const std::string &part) {
    clear();
    ::setenv(name, value, 1);
    Options o;
    o.threads = 77;
    const std::string before = text_of(o);
    const Status s = apply_environment(o);
    ASSERT_FALSE(s.has_value()) << name << "=" << value;
    EXPECT_EQ(s.error().code, ErrorCode::usage);
    EXPECT_NE(s.error().message.find(name), std::string::npos);
    EXPECT_NE(s.error().message.find(part), std::string::npos) << s.error().message;
    EXPECT_EQ(text_of(o), before);
  }
};

TEST_F(Environment, ChangesNothingWhenUnset) {
  EXPECT_EQ(text_of(apply().value()), text_of(Options{}));
  ::setenv("SWITCHYARD_BACKEND", "", 1);
  ::setenv("SWITCHYARD_ISA", "", 1);
  ::setenv("SWITCHYARD_LOG", "", 1);
  ::setenv("SWITCHYARD_PLUGIN_PATH", "", 1);
  EXPECT_EQ(text_of(apply().value()), text_of(Options{}));
}

TEST_F(Environment, WinsOverFiles) {
  ::setenv("SWITCHYARD_BACKEND", "opencl:0", 1);
  ::setenv("SWITCHYARD_ISA", "avx2", 1);
  ::setenv("SWITCHYARD_CACHE_DIR", "", 1);
  ::setenv("SWITCHYARD_LOG", "debug", 1);
  ::setenv("SWITCHYARD_PLUGIN_PATH", "/a:/b:", 1);
  Options base;
  base.pin = {{"kmeans", "avx512"}};
  base.plugin_paths = {"/c"};
  const Options o = apply(base).value();
  EXPECT_EQ(o.pin, (std::map<std::string, std::string>{{"*", "opencl:0"}}));
  EXPECT_EQ(o.isa, "avx2");
  EXPECT_EQ(o.cache_dir, "");
  EXPECT_EQ(o.log_level, "debug");
  EXPECT_EQ(o.plugin_paths, (std::vector<std::string>{"/a", "/b", "/c"}));
}

TEST_F(Environment, BadValuesAreErrors) {
  refused("SWITCHYARD_ISA", "avx521", "did you mean 'avx512'?");
  refused("SWITCHYARD_ISA", "neon", "expected one of avx2, avx512, avx512_bf16, amx");
  refused("SWITCHYARD_LOG", "verbose", "expected one of debug, info");
  refused("SWITCHYARD_LOG", "wraning", "did you mean 'warning'?");
  refused("SWITCHYARD_BACKEND", "avx2; rm", "expected a backend's name");
  refused("SWITCHYARD_CACHE_DIR", "cache", "expected an absolute path");
  refused("SWITCHYARD_PLUGIN_PATH", "/a:b", "expected absolute paths");
  refused("SWITCHYARD_PLUGIN_PATH", ".", "expected absolute paths");
}

TEST(Words, ParseAndPrint) {
  for (Policy p :
       {Policy::adaptive, Policy::benchmark, Policy::thresholds, Policy::fixed, Policy::frozen})
    EXPECT_EQ(parse_policy(to_string(p)).value(), p);
  for (Numerics n : {Numerics::reproducible, Numerics::tolerant})
    EXPECT_EQ(parse_numerics(to_string(n)).value(), n);
  for (Isolation i : {Isolation::off, Isolation::first_use, Isolation::always})
    EXPECT_EQ(parse_isolation(to_string(i)).value(), i);
  EXPECT_EQ(parse_policy("adaptiv").error().message,
            "unknown policy 'adaptiv'; did you mean 'adaptive'?");
  EXPECT_EQ(parse_policy("adaptiv").error().code, ErrorCode::usage);
}

}  // namespace
}  // namespace switchyard
