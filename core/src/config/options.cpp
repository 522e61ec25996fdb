// SPDX-License-Identifier: Apache-2.0
#include "config/options.hpp"

#include <fmt/format.h>

#include <array>
#include <cctype>
#include <cstdlib>

#include "base/suggest.hpp"
#include "config/engine_schema.hpp"
#include "config/presets.hpp"

namespace switchyard {
namespace {

using config::Document;
using config::Field;
using config::Node;
using config::Section;
using config::Type;

const std::array kRootFields = {
    config::kVersionField,
    Field{.name = "engine",
          .type = Type::section,
          .doc = "how operations are routed",
          .section = &config::engine_section()},
};
const Section kRoot{"the file", kRootFields};

template <class E>
using Word = std::pair<std::string_view, E>;
constexpr std::array kPolicies = {
    Word<Policy>{"adaptive", Policy::adaptive}, Word<Policy>{"benchmark", Policy::benchmark},
    Word<Policy>{"thresholds", Policy::thresholds}, Word<Policy>{"fixed", Policy::fixed},
    Word<Policy>{"frozen", Policy::frozen}};
constexpr std::array kNumerics = {Word<Numerics>{"reproducible", Numerics::reproducible},
                                  Word<Numerics>{"tolerant", Numerics::tolerant}};
constexpr std::array kIsolations = {Word<Isolation>{"off", Isolation::off},
                                    Word<Isolation>{"first_use", Isolation::first_use},
                                    Word<Isolation>{"always", Isolation::always}};

template <class E, std::size_t N>
Result<E> parse_word(std::string_view what, std::string_view text,
                     const std::array<Word<E>, N> &words) {
  std::array<std::string_view, N> known;
  for (std::size_t i = 0; i < N; ++i) {
    if (words[i].first == text) return words[i].second;
    known[i] = words[i].first;
  }
  return fail(ErrorCode::usage,
              fmt::format("unknown {} '{}'{}", what, text, did_you_mean(text, known)));
}

template <class E, std::size_t N>
std::string_view word_of(E value, const std::array<Word<E>, N> &words) noexcept {
  for (const auto &[word, known] : words)
    if (known == value) return word;
  return {};
}

/// nullptr if unset, or if the process has more rights than its user.
const char *variable(const char *name) noexcept { return ::secure_getenv(name); }

tl::unexpected<Error> bad_variable(std::string_view name, std::string_view value,
                                   std::string_view why) {
  return fail(ErrorCode::usage, fmt::format("environment variable {}='{}': {}", name, value, why));
}

/// Checks a value against the schema's choices for an engine key.
Status choose(const char *name, std::string_view key, std::string &to) {
  const char *value = variable(name);
  if (value == nullptr || *value == '\0') return {};
  const auto choices = config::engine_section().find(key)->choices;
  for (std::string_view choice : choices)
    if (choice == value) {
      to = choice;
      return {};
    }
  std::string known;
  for (std::string_view choice : choices)
    known += fmt::format("{}{}", known.empty() ? "" : ", ", choice);
  const std::string hint = did_you_mean(value, choices);
  return bad_variable(name, value, hint.empty() ? "expected one of " + known : "unknown" + hint);
}

}  // namespace

std::span<const std::string_view> preset_names() noexcept {
  static const auto names = [] {
    std::array<std::string_view, config::kPresets.size()> all;
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = config::kPresets[i].name;
    return all;
  }();
  return names;
}

std::string_view preset_text(std::string_view name) noexcept {
  for (const config::Preset &preset : config::kPresets)
    if (preset.name == name) return preset.text;
  return {};
}

Result<Options> load_preset(std::string_view name) {
  const std::string_view text = preset_text(name);
  if (text.empty())
    return fail(ErrorCode::usage,
                fmt::format("unknown preset '{}'{}", name, did_you_mean(name, preset_names())));
  auto document = Document::parse(std::string(text), fmt::format("preset {}", name));
  if (!document) return tl::unexpected(document.error());
  if (auto s = config::check_root(*document, kRoot); !s) return tl::unexpected(s.error());
  Options options;
  if (const config::Entry *engine = document->root().find("engine"))
    config::apply_engine({engine->value, config::engine_section()}, "/", options);
  options.preset = name;
  return options;
}

Result<Options> load_engine_config(const std::string &path, const Options &base) {
  auto document = Document::load(path);
  if (!document) return tl::unexpected(document.error());
  if (auto s = config::check_root(*document, kRoot); !s) return tl::unexpected(s.error());
  const config::Entry *engine = document->root().find("engine");
  return config::engine_options(*document, engine == nullptr ? nullptr : &engine->value,
                                config::directory_of(path), base);
}

Status apply_environment(Options &options) {
  Options changed = options;
  if (const char *backend = variable("SWITCHYARD_BACKEND");
      backend != nullptr && *backend != '\0') {
    for (const char *c = backend; *c != '\0'; ++c)
      if (std::isalnum(static_cast<unsigned char>(*c)) == 0 &&
          std::string_view("_-.:").find(*c) == std::string_view::npos)
        return bad_variable("SWITCHYARD_BACKEND", backend, "expected a backend's name");
    changed.pin = {{"*", backend}};
  }
  if (auto s = choose("SWITCHYARD_ISA", "isa", changed.isa); !s) return s;
  if (auto s = choose("SWITCHYARD_LOG", "log_level", changed.log_level); !s) return s;
  if (const char *cache = variable("SWITCHYARD_CACHE_DIR")) {
    if (*cache != '\0' && *cache != '/')
      return bad_variable("SWITCHYARD_CACHE_DIR", cache, "expected an absolute path");
    changed.cache_dir = cache;
  }
  if (const char *paths = variable("SWITCHYARD_PLUGIN_PATH")) {
    std::vector<std::string> found;
    for (std::string_view rest = paths; !rest.empty();) {
      const std::string_view path = rest.substr(0, rest.find(':'));
      rest.remove_prefix(std::min(rest.size(), path.size() + 1));
      if (path.empty()) continue;
      if (path.front() != '/')
        return bad_variable("SWITCHYARD_PLUGIN_PATH", paths,
                            "expected absolute paths between colons");
      found.emplace_back(path);
    }
    changed.plugin_paths.insert(changed.plugin_paths.begin(), found.begin(), found.end());
  }
  options = std::move(changed);
  options.resolved = true;
  return {};
}

Result<Policy> parse_policy(std::string_view text) { return parse_word("policy", text, kPolicies); }
Result<Numerics> parse_numerics(std::string_view text) {
  return parse_word("numerics", text, kNumerics);
}
Result<Isolation> parse_isolation(std::string_view text) {
  return parse_word("isolation", text, kIsolations);
}
std::string_view to_string(Policy policy) noexcept { return word_of(policy, kPolicies); }
std::string_view to_string(Numerics numerics) noexcept { return word_of(numerics, kNumerics); }
std::string_view to_string(Isolation isolation) noexcept { return word_of(isolation, kIsolations); }

}  // namespace switchyard
