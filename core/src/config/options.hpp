// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Engine options from presets, YAML and the environment.
/// Precedence: defaults < preset < YAML `engine:` < environment < command line.

#include <span>
#include <string>
#include <string_view>
#include <switchyard/engine.hpp>
#include <vector>

namespace switchyard {

/// Names of the presets (config/presets/NAME.yaml, compiled into the library).
std::span<const std::string_view> preset_names() noexcept;

/// The YAML text of a preset, or "" for an unknown name.
std::string_view preset_text(std::string_view name) noexcept;

/// Defaults overlaid with the preset; Options::preset is its name. An unknown name is a usage error
/// with "did you mean".
Result<Options> load_preset(std::string_view name);

/// The mapping under `engine:` of a YAML file that may hold nothing else but `version: 1`.
/// `preset` in it (or, where absent, `base.preset`) is applied first. Errors: io, config.
Result<Options> load_engine_config(const std::string &path, const Options &base = {});

/// Overlays SWITCHYARD_BACKEND (pins every operation), SWITCHYARD_ISA, SWITCHYARD_CACHE_DIR,
/// SWITCHYARD_LOG and SWITCHYARD_PLUGIN_PATH. Unset or empty variables change nothing, but an empty
/// SWITCHYARD_CACHE_DIR means "keep nothing on disk". SWITCHYARD_PLUGIN_PATH is ignored in
/// privileged (setuid) processes. Marks the options as resolved, so that the engine does not apply
/// the environment again over what the caller sets afterwards. A bad value is a usage error naming
/// the variable.
Status apply_environment(Options &options);

// Names as written in YAML and on the command line; a bad one is a usage error with "did you mean".
Result<Policy> parse_policy(std::string_view text);
Result<Numerics> parse_numerics(std::string_view text);
Result<Isolation> parse_isolation(std::string_view text);
std::string_view to_string(Policy policy) noexcept;
std::string_view to_string(Numerics numerics) noexcept;
std::string_view to_string(Isolation isolation) noexcept;

}  // namespace switchyard
