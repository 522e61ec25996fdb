// SPDX-License-Identifier: Apache-2.0
#pragma once
/// What backends an engine has, for whoever pins one by name.

#include <switchyard/engine.hpp>

#include <string>
#include <vector>

namespace switchyard {

/// The instances of all loaded plugins, each once: "avx2", "opencl:0".
std::vector<std::string> backend_names(const Engine &engine);

/// An error that says why where `name` is no loaded plugin or instance: refused, or unknown, with
/// the nearest name and all known ones.
Status check_backend(const Engine &engine, const std::string &name);

}  // namespace switchyard
