// SPDX-License-Identifier: Apache-2.0
// switchyard plugin new NAME --op OP: a plugin that builds and passes its check, to start from.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "cli/templates.hpp"
#include "io/file.hpp"
#include "op/op_spec.hpp"
#include "plugin_author.hpp"
#include "session.hpp"

namespace switchyard::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kLongestName = 55;  // what the ELF note holds

struct Arguments {
  std::string name, op, directory;
};

const Template *find_template(std::string_view name) {
  const auto *it = std::find_if(std::begin(kTemplates), std::end(kTemplates),
                                [&](const Template &t) { return t.name == name; });
  return it == std::end(kTemplates) ? nullptr : it;
}

std::string replaced(std::string text, std::string_view what, std::string_view with) {
  for (std::size_t at = 0; (at = text.find(what, at)) != std::string::npos; at += with.size())
    text.replace(at, what.size(), with);
  return text;
}

Status check_name(const std::string &name) {
  const bool good =
      !name.empty() && name.size() <= kLongestName && name[0] >= 'a' && name[0] <= 'z' &&
      name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos;
  if (good) return {};
  return fail(ErrorCode::usage,
              fmt::format("'{}' is no plugin name: small letters, digits and _, a letter first, at "
                          "most {} in all",
                          name, kLongestName));
}

Outcome run(const Arguments &a, const Common &common) {
  if (auto ok = check_common(common); !ok) return tl::unexpected(ok.error());
  if (auto ok = check_name(a.name); !ok) return tl::unexpected(ok.error());
  const std::string op = a.op == "kmeans" ? "kmeans.step" : a.op;
  if (const auto known = find_op(op); !known) return tl::unexpected(known.error());
  std::string word = op;
  std::replace(word.begin(), word.end(), '.', '_');
  const std::string kernel = "kernel_" + word + ".c";
  if (find_template(kernel) == nullptr)
    return fail(ErrorCode::unsupported, fmt::format("there is no scaffold for {} yet", op));

  const fs::path directory = a.directory.empty() ? fs::path(a.name) : fs::path(a.directory);
  std::error_code error;
  if (!fs::create_directory(directory, error)) {
    Error failed{ErrorCode::io,
                 error ? error.message() : "it exists already; nothing was written",
                 directory.string(),
                 0,
                 0,
                 -1,
                 {}};
    return tl::unexpected(std::move(failed));
  }
  const std::string version(switchyard::version());
  const std::pair<std::string, std::string> files[] = {{"CMakeLists.txt.in", "CMakeLists.txt"},
                                                       {"README.md.in", "README.md"},
                                                       {"plugin.c", "plugin.c"},
                                                       {kernel, "kernel.c"}};
  Json written = Json::array();
  std::string text = fmt::format("{}: a plugin with one kernel of {}\n", directory.string(), op);
  for (const auto &[from, to] : files) {
    std::string content(find_template(from)->text);
    content = replaced(std::move(content), "@NAME@", a.name);
    content = replaced(std::move(content), "@OP@", op);
    content = replaced(std::move(content), "@VERSION@", version.substr(0, version.rfind('.')));
    const std::string path = (directory / to).string();
    if (auto ok = write_file(path, content); !ok) return tl::unexpected(ok.error());
    written.push_back(path);
    text += "  " + path + "\n";
  }
  text += fmt::format(
      "build it:  cd {} && cmake -B out && cmake --build out\n"
      "check it:  switchyard plugin check out/switchyard_{}.so\n",
      directory.string(), a.name);
  Json doc = document("plugin new");
  doc["name"] = a.name;
  doc["op"] = op;
  doc["files"] = std::move(written);
  print_result(common, doc, text);
  return 0;
}

}  // namespace

void add_plugin_new(Program &program, CLI::App *group) {
  auto a = std::make_shared<Arguments>();
  CLI::App *app = add_command(program, group, "new", "A new plugin's sources, ready to build",
                              [a, &program] { return run(*a, program.common); });
  app->add_option("NAME", a->name, "Its id: small letters, digits and _")->required();
  app->add_option("--op", a->op, "The operation that its kernel offers")->required();
  app->add_option("--directory", a->directory, "Where to; default: a new directory NAME");
}

}  // namespace switchyard::cli
