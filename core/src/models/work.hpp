// SPDX-License-Identifier: Apache-2.0
#pragma once
/// The place where an output grows: a folder OUT.partial beside it, with the files under their
/// final names and a journal of what is done. It becomes the output in one rename. What an
/// interrupted run leaves is taken up by the next one with the same fingerprint.

#include <span>
#include <string>
#include <switchyard/result.hpp>
#include <vector>

namespace switchyard::models {

class WorkFolder {
 public:
  struct File {
    std::string name;        ///< within the folder
    std::uint64_t size = 0;  ///< bytes
  };

  /// `folder`: the output is a folder, which must not exist or be empty; else it is the one file.
  /// Old work with another fingerprint (or any, unless `resume`) is thrown away. io: also where
  /// another process is at work on the same output.
  static Result<WorkFolder> open(const std::string &out, bool folder,
                                 const std::string &fingerprint, bool resume,
                                 std::vector<File> files);
  /// Takes everything and keeps nothing.
  static WorkFolder nowhere() { return {}; }
  WorkFolder(WorkFolder &&other) noexcept;
  WorkFolder &operator=(WorkFolder &&) = delete;
  ~WorkFolder();

  bool kept() const noexcept { return journal_ >= 0; }
  /// Lines of the journal of earlier runs.
  const std::vector<std::string> &done() const noexcept { return done_; }
  Status note(const std::string &line);

  Status write(std::size_t file, std::uint64_t offset, std::span<const std::byte> bytes);
  Status read(std::size_t file, std::uint64_t offset, std::span<std::byte> bytes) const;
  /// A small file of a folder, whole; `name` may have folders in it.
  Status add(const std::string &name, std::string_view bytes);

  /// Makes everything durable and gives it its name.
  Status finish();
  /// Removes the folder: for errors that would come again.
  void discard() noexcept;

 private:
  WorkFolder() = default;
  tl::unexpected<Error> error(const std::string &path, const char *what) const;
  std::string out_, path_;
  bool folder_ = false;
  std::vector<File> files_;
  std::vector<int> descriptors_;
  std::vector<std::string> done_, extras_;
  int journal_ = -1;
};

}  // namespace switchyard::models
