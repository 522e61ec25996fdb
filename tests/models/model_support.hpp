// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Small models on disk.

#include <cmath>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <switchyard/models.hpp>

#include "io/cast.hpp"
#include "io/safetensors.hpp"
#include "support/engine_support.hpp"

namespace switchyard::test {

namespace fs = std::filesystem;
using Json = nlohmann::json;

inline std::string slurp(const std::string &path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// What follows the header of a .safetensors file, or of a .gguf file all of it but the hints,
/// which may name other kernels from run to run.
inline std::string without_hints(const std::string &path) {
  std::string bytes = slurp(path);
  std::uint64_t length = 0;
  if (path.find(".gguf") == std::string::npos) {
    std::memcpy(&length, bytes.data(), sizeof length);
    return bytes.substr(sizeof length + length);
  }
  const auto at = bytes.find("switchyard.hints");
  EXPECT_NE(at, std::string::npos);
  std::memcpy(&length, bytes.data() + at + 20, sizeof length);  // the key's 16 bytes, the kind
  return bytes.erase(at + 28, length);
}

inline void spill(const std::string &path, const std::string &bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out << bytes;
  ASSERT_TRUE(out.good()) << path;
}

inline Tensor weights(std::vector<std::int64_t> shape, DType dtype = dtypes::f32,
                      unsigned seed = 1) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal(0, 0.05f);
  auto x = Tensor::empty(dtypes::f32, shape);
  for (std::int64_t i = 0; i < x->elements(); ++i) x->data<float>()[i] = normal(engine);
  return *cast(*x, dtype);
}

/// A folder with config.json, a tokenizer and these tensors, in one file or in two shards.
class ModelFixture : public ::testing::Test {
 protected:
  std::string path(const std::string &name) const { return directory_.path() + "/" + name; }

  void add(const std::string &name, Tensor tensor) {
    names_.push_back(name);
    tensors_.push_back(std::move(tensor));
  }

  /// A little of everything: embeddings, projections in three dtypes, norms, integers.
  void add_all() {
    add("model.embed_tokens.weight", weights({300, 256}, dtypes::f16, 1));
    add("model.layers.0.self_attn.q_proj.weight", weights({256, 256}, dtypes::f32, 2));
    add("model.layers.0.mlp.down_proj.weight", weights({64, 512}, dtypes::bf16, 3));
    add("model.layers.0.input_layernorm.weight", weights({256}, dtypes::f32, 4));
    add("model.layers.0.odd.weight", weights({5, 7}, dtypes::f32, 5));
    add("lm_head.weight", weights({128, 256}, dtypes::f32, 6));
    auto ids = Tensor::zeros(dtypes::i64, std::vector<std::int64_t>{1, 16});
    add("position_ids", std::move(*ids));
  }

  std::string folder(const std::string &name = "model", bool shards = false) {
    const std::string out = path(name);
    fs::create_directory(out);
    spill(out + "/config.json", R"({"model_type": "llama", "hidden_size": 256})");
    spill(out + "/tokenizer.json", "{}");
    const std::size_t half = shards ? tensors_.size() / 2 : tensors_.size();
    Json map;
    for (int part = 0; part < (shards ? 2 : 1); ++part) {
      std::vector<NamedTensor> some;
      const std::string file =
          shards ? "model-0000" + std::to_string(part + 1) + "-of-00002.safetensors"
                 : "model.safetensors";
      for (std::size_t i = part == 0 ? 0 : half; i < (part == 0 ? half : tensors_.size()); ++i) {
        some.push_back({names_[i], tensors_[i]});
        map[names_[i]] = file;
      }
      EXPECT_TRUE(write_safetensors(out + "/" + file, some).has_value());
    }
    if (shards) spill(out + "/model.safetensors.index.json", Json{{"weight_map", map}}.dump());
    return out;
  }

  const Tensor &tensor(const std::string &name) const {
    for (std::size_t i = 0; i < names_.size(); ++i)
      if (names_[i] == name) return tensors_[i];
    static const Tensor none;
    ADD_FAILURE() << name;
    return none;
  }

  static Engine &engine() {
    static Engine one = testing::make_engine();
    return one;
  }

  static ModelOptions recipe(const std::string &name) {
    ModelOptions options;
    options.recipe = name;
    return options;
  }
  static ModelOptions rules(const std::string &text) {
    ModelOptions options;
    options.rules = "version: 1\n" + text;
    return options;
  }
  static TensorChoice choice(const std::string &format, int group_size = 0) {
    TensorChoice c;
    c.format = format;
    c.group_size = group_size;
    return c;
  }

  Result<ModelReport> dry(const std::string &in, ModelOptions options,
                          const std::string &out = "") {
    options.dry_run = true;
    return quantize_model(engine(), in, out, options);
  }

  static const TensorReport &of(const ModelReport &report, const std::string &name) {
    for (const TensorReport &t : report.tensors)
      if (t.tensor.name == name) return t;
    static const TensorReport none;
    ADD_FAILURE() << name;
    return none;
  }

  std::vector<std::string> names_;
  std::vector<Tensor> tensors_;

 private:
  testing::TemporaryDirectory directory_;
};

template <class T>
void expect_error(const Result<T> &result, ErrorCode code, const std::string &part) {
  ASSERT_FALSE(result.has_value()) << "expected: " << part;
  EXPECT_EQ(to_string(result.error().code), to_string(code)) << result.error().text();
  EXPECT_NE(result.error().text().find(part), std::string::npos) << result.error().text();
}

}  // namespace switchyard::test
