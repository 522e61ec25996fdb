// SPDX-License-Identifier: Apache-2.0
// Interruptions, wrong inputs and hostile files: nothing half-written is ever left under a name
// that counts, and what was done is not done again.
#include <limits>

#include "model_support.hpp"

namespace switchyard::test {
namespace {

class ConvertFaults : public ModelFixture {
 protected:
  void SetUp() override { add_all(); }

  /// Stops after some progress reports; the number of tensors done then is in the message.
  ModelOptions stopped(ModelOptions options, int after) {
    options.progress = [left = after](const std::string &, double) mutable { return --left > 0; };
    return options;
  }

  std::size_t resumed(const ModelReport &report) {
    return static_cast<std::size_t>(std::ranges::count_if(report.tensors, &TensorReport::resumed));
  }
};

TEST_F(ConvertFaults, AnInterruptedRunIsContinued) {
  const std::string in = folder();
  for (const std::string out : {"out", "o.safetensors", "o.gguf"}) {
    SCOPED_TRACE(out);
    const ModelOptions options = recipe("SPEED_4BIT");
    const auto stop = quantize_model(engine(), in, path(out), stopped(options, 8));
    expect_error(stop, ErrorCode::cancelled, "goes on from there");
    EXPECT_FALSE(fs::exists(path(out)));
    ASSERT_TRUE(fs::exists(path(out + ".partial")));
    const auto rest = quantize_model(engine(), in, path(out), options);
    ASSERT_TRUE(rest) << rest.error().text();
    EXPECT_GT(resumed(*rest), 0u);
    EXPECT_LT(resumed(*rest), rest->tensors.size());
    EXPECT_FALSE(fs::exists(path(out + ".partial")));
    const auto once = quantize_model(engine(), in, path("2" + out), options);
    ASSERT_TRUE(once) << once.error().text();
    const std::string file = out == "out" ? "/model.safetensors" : "";
    EXPECT_TRUE(without_hints(path(out) + file) == without_hints(path("2" + out) + file));
    EXPECT_DOUBLE_EQ(rest->quality().squared_error, once->quality().squared_error);
  }
}

TEST_F(ConvertFaults, DamagedWorkIsDoneAgain) {
  const std::string in = folder();
  const ModelOptions options = recipe("SPEED_4BIT");
  expect_error(quantize_model(engine(), in, path("o.safetensors"), stopped(options, 8)),
               ErrorCode::cancelled, "");
  const std::string data = path("o.safetensors.partial/model.safetensors");
  std::string bytes = slurp(data);
  for (std::size_t i = 0; i < bytes.size(); i += 50) bytes[i] = static_cast<char>(~bytes[i]);
  spill(data, bytes);
  const auto rest = quantize_model(engine(), in, path("o.safetensors"), options);
  ASSERT_TRUE(rest) << rest.error().text();
  const auto once = quantize_model(engine(), in, path("once.safetensors"), options);
  EXPECT_TRUE(without_hints(path("o.safetensors")) == without_hints(path("once.safetensors")));
}

TEST_F(ConvertFaults, OtherPlansStartOver) {
  const std::string in = folder();
  const auto stop = [&](const std::string &out) {
    expect_error(quantize_model(engine(), in, path(out), stopped(recipe("SPEED_4BIT"), 8)),
                 ErrorCode::cancelled, "");
  };
  stop("a");
  auto other = quantize_model(engine(), in, path("a"), recipe("QUALITY_8BIT"));
  ASSERT_TRUE(other) << other.error().text();
  EXPECT_EQ(resumed(*other), 0u);
  stop("b");
  ModelOptions restart = recipe("SPEED_4BIT");
  restart.resume = false;
  auto again = quantize_model(engine(), in, path("b"), restart);
  ASSERT_TRUE(again);
  EXPECT_EQ(resumed(*again), 0u);
  stop("c");  // the input changes
  fs::last_write_time(in + "/model.safetensors",
                      fs::last_write_time(in + "/model.safetensors") + std::chrono::seconds(2));
  auto changed = quantize_model(engine(), in, path("c"), recipe("SPEED_4BIT"));
  ASSERT_TRUE(changed);
  EXPECT_EQ(resumed(*changed), 0u);
}

TEST_F(ConvertFaults, WrongValuesNameTensorAndIndexAndLeaveNothing) {
  tensors_[5].data<float>()[777] = std::numeric_limits<float>::quiet_NaN();
  const std::string in = folder();
  spill(path("o.gguf"), "old");
  for (const std::string out : {"out", "o.gguf"}) {
    const auto report = quantize_model(engine(), in, path(out), recipe("SPEED_4BIT"));
    expect_error(report, ErrorCode::nonfinite, "tensor 'lm_head.weight'");
    EXPECT_EQ(report.error().index, 777);
    EXPECT_FALSE(fs::exists(path(out + ".partial")));
  }
  EXPECT_FALSE(fs::exists(path("out")));
  EXPECT_EQ(slurp(path("o.gguf")), "old");
  ModelOptions saturate = recipe("SPEED_4BIT");
  saturate.nonfinite = "saturate";
  EXPECT_TRUE(quantize_model(engine(), in, path("out"), saturate).has_value());
}

TEST_F(ConvertFaults, IndexesCountFromTheTensorsBegin) {
  tensors_.clear();
  names_.clear();
  add("tall.weight", weights({5000, 1024}));
  constexpr std::int64_t at = 4'900 * 1024 + 5;  // in the third piece
  tensors_[0].data<float>()[at] = std::numeric_limits<float>::infinity();
  const auto report = quantize_model(engine(), folder(), path("o"), recipe("SPEED_4BIT"));
  ASSERT_FALSE(report);
  EXPECT_EQ(report.error().index, at);
}

TEST_F(ConvertFaults, OutputsInTheWayAreRefused) {
  const std::string in = folder();
  const auto to = [&](const std::string &out) {
    return quantize_model(engine(), in, path(out), recipe("SPEED_4BIT"));
  };
  fs::create_directory(path("full"));
  spill(path("full/mine"), "x");
  expect_error(to("full"), ErrorCode::io, "not empty");
  fs::create_directory(path("o.gguf"));
  expect_error(to("o.gguf"), ErrorCode::io, "is a directory");
  spill(path("file"), "x");
  expect_error(to("file"), ErrorCode::io, "a file has this name");
  fs::create_directory(path("p.partial"));
  spill(path("p.partial/mine"), "x");
  expect_error(to("p"), ErrorCode::io, "not work of an earlier conversion");
  EXPECT_EQ(slurp(path("p.partial/mine")), "x");
  expect_error(to("no/such/folder"), ErrorCode::io, "make the folder");
  expect_error(to("model"), ErrorCode::usage, "the output is the input");
  fs::create_directory(path("empty"));
  EXPECT_TRUE(to("empty").has_value());
}

TEST_F(ConvertFaults, LinksInTheWorkFolderAreNotFollowed) {
  const std::string in = folder();
  expect_error(quantize_model(engine(), in, path("o.gguf"), stopped(recipe("SPEED_4BIT"), 8)),
               ErrorCode::cancelled, "");
  spill(path("precious"), "keep");
  fs::remove(path("o.gguf.partial/model.gguf"));
  fs::create_symlink(path("precious"), path("o.gguf.partial/model.gguf"));
  expect_error(quantize_model(engine(), in, path("o.gguf"), recipe("SPEED_4BIT")), ErrorCode::io,
               "model.gguf");
  EXPECT_EQ(slurp(path("precious")), "keep");
}

TEST_F(ConvertFaults, TwoProcessesDoNotShareAnOutput) {
  const std::string in = folder();
  ModelOptions outer = recipe("SPEED_4BIT");
  int depth = 0;
  outer.progress = [&](const std::string &, double) {
    if (depth++ == 0) {
      // Another run at the same time; locks belong to open files, so one process can show it.
      auto inner = quantize_model(engine(), in, path("o.gguf"), recipe("SPEED_4BIT"));
      expect_error(inner, ErrorCode::io, "another process");
    }
    return true;
  };
  EXPECT_TRUE(quantize_model(engine(), in, path("o.gguf"), outer).has_value());
  EXPECT_GT(depth, 0);
}

TEST_F(ConvertFaults, InputsThatAreNoModels) {
  const auto from = [&](const std::string &in) { return dry(path(in), recipe("SPEED_4BIT")); };
  expect_error(from("missing"), ErrorCode::io, "missing");
  fs::create_directory(path("empty"));
  expect_error(from("empty"), ErrorCode::io, "holds no model");
  spill(path("text.txt"), "hello");
  expect_error(from("text.txt"), ErrorCode::usage, "is not a model");
  spill(path("a.gguf"), "hello");
  expect_error(from("a.gguf"), ErrorCode::io, "GGUF");
  fs::create_directory(path("two"));
  spill(path("two/a.gguf"), "");
  spill(path("two/b.gguf"), "");
  expect_error(from("two"), ErrorCode::usage, "choose one");
  const std::string in = folder();
  spill(in + "/config.json", "[]");
  expect_error(from("model"), ErrorCode::io, "not a JSON object");
  spill(in + "/config.json", std::string(100'000, '[') + std::string(100'000, ']'));
  expect_error(from("model"), ErrorCode::io, "not a JSON object");
  spill(in + "/model.safetensors.index.json",
        R"({"weight_map": {"lm_head.weight": "../model.safetensors"}})");
  expect_error(from("model"), ErrorCode::io, "not a file beside the index");
}

TEST_F(ConvertFaults, DescriptionsThatLieAreRefused) {
  const std::string in = folder();
  ASSERT_TRUE(quantize_model(engine(), in, path("q"), recipe("SPEED_4BIT")).has_value());
  const auto file = SafetensorsReader::open(path("q/model.safetensors"));
  std::vector<Tensor> keep;
  std::vector<NamedTensor> arrays;
  for (const SafetensorInfo &t : file->tensors()) keep.push_back(std::move(*file->read(t)));
  for (std::size_t i = 0; i < keep.size(); ++i)
    arrays.push_back({file->tensors()[i].name, keep[i]});
  const Json meta = Json::parse(file->metadata().at("meta"));
  const auto with = [&](const Json &changed, const std::string &quantization) {
    spill(path("q/config.json"), "{\"quantization\": " + quantization + "}");
    SafetensorsMetadata metadata{{"meta", changed.dump()}};
    EXPECT_TRUE(write_safetensors(path("q/model.safetensors"), arrays, metadata));
    return dequantize_model(engine(), path("q"), "", {});
  };
  EXPECT_TRUE(with(meta, "{}").has_value());
  const auto lie = [&](const char *key, const Json &value) {
    Json changed = meta;
    changed["tensors"]["lm_head.weight"][key] = value;
    return with(changed, "{}");
  };
  expect_error(lie("shape", {128, 512}), ErrorCode::io, "lm_head");
  expect_error(lie("shape", {-1, 256}), ErrorCode::io, "lm_head");
  expect_error(lie("shape", {std::uint64_t{1} << 63, 2}), ErrorCode::io, "lm_head");
  expect_error(lie("shape", "x"), ErrorCode::io, "lm_head");
  expect_error(lie("format", "q4_0"), ErrorCode::io, "lm_head");
  expect_error(lie("format", "nope"), ErrorCode::io, "lm_head");
  expect_error(lie("group_size", std::uint64_t{1} << 40), ErrorCode::io, "lm_head");
  expect_error(lie("dtype", "f64"), ErrorCode::io, "lm_head");
  Json absent = meta;
  absent["tensors"]["ghost.weight"] = meta["tensors"]["lm_head.weight"];
  expect_error(with(absent, "{}"), ErrorCode::io, "ghost");
  // Without metadata, config.json is believed, and checked too.
  expect_error(with({}, R"({"group_size": 64, "bits": 0})"), ErrorCode::io, "bits");
  expect_error(with({}, R"({"group_size": 64, "bits": 7})"), ErrorCode::io, "tensor");
  expect_error(with({}, R"({"group_size": 128, "bits": 4})"), ErrorCode::io, "scales");
  expect_error(with({}, R"({"group_size": 3, "bits": 4})"), ErrorCode::io, "group size");
  EXPECT_TRUE(with({}, R"({"group_size": 64, "bits": 4})").has_value());
  EXPECT_TRUE(with({}, "7").has_value());
}

TEST_F(ConvertFaults, AWholeTensorIsRefusedWhereItIsTooLarge) {
  ModelOptions options = rules("rules: {lm_head.weight: ternary}\n");
  options.whole_tensor_bytes = 100'000;
  const std::string in = folder();
  expect_error(quantize_model(engine(), in, path("o"), options), ErrorCode::unsupported,
               "choose granularity row or group");
  options.whole_tensor_bytes = 200'000;
  EXPECT_TRUE(quantize_model(engine(), in, path("o"), options).has_value());
}

}  // namespace
}  // namespace switchyard::test
