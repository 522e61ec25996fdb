// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The keys of `engine:` and what they do to Options.

#include <switchyard/engine.hpp>

#include "config/schema.hpp"

namespace switchyard::config {

inline constexpr std::string_view kVersions[] = {"1"};
/// The first key of every file.
inline constexpr Field kVersionField{.name = "version",
                                     .type = Type::choice,
                                     .doc = "of the file's layout",
                                     .required = true,
                                     .choices = kVersions};

const Section &engine_section() noexcept;

/// Overlays what a checked `engine:` mapping gives; `directory` is where relative paths start. The
/// key `preset` is not applied, only recorded.
void apply_engine(const View &view, const std::string &directory, Options &options);

/// `path` made absolute, starting at `directory` if relative; "." and ".." are resolved as text.
std::string absolute_path(const std::string &path, const std::string &directory);
/// The absolute directory that a file lies in.
std::string directory_of(const std::string &path);

/// The checked root of a document: version 1 and the section's keys.
Status check_root(const Document &document, const Section &root);

/// Applies the preset named in the mapping (or already in `base`), then the mapping.
Result<Options> engine_options(const Document &document, const Node *engine,
                               const std::string &directory, const Options &base);

}  // namespace switchyard::config
