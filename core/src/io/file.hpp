// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Files: reading with errors instead of surprises, and writing that leaves the old file or the new
/// one, never a mix. Nothing is mapped: a file that is cut short while it is read must be an error,
/// and a mapping would make it SIGBUS.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <switchyard/result.hpp>

namespace switchyard {

/// An error about a file.
tl::unexpected<Error> file_error(const std::string &path, std::string message,
                                 ErrorCode code = ErrorCode::io);

/// A regular file opened for reading. Move-only; `read` may be called from any thread.
class InputFile {
 public:
  /// Fails with io: missing, unreadable, a directory, or anything else that is not a regular file.
  static Result<InputFile> open(const std::string &path);
  InputFile(InputFile &&other) noexcept;
  InputFile &operator=(InputFile &&other) noexcept;
  ~InputFile();

  const std::string &path() const noexcept { return path_; }
  std::uint64_t size() const noexcept { return size_; }  ///< when it was opened

  /// Fills `out` from `offset` on; io if the file does not reach that far (any more).
  Status read(std::uint64_t offset, std::span<std::byte> out) const;

 private:
  InputFile(std::string path, int fd, std::uint64_t size) noexcept;
  std::string path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

/// A whole file of at most `max_bytes`, as text.
Result<std::string> read_text_file(const std::string &path, std::uint64_t max_bytes);

/// Replaces a file in one step: everything goes to a temporary file in the same directory, which
/// `commit` makes durable and renames. Without `commit` the temporary file is removed and the old
/// file stays. A symbolic link is followed; devices, directories and read-only files are refused.
class AtomicFile {
 public:
  static Result<AtomicFile> create(const std::string &path);
  AtomicFile(AtomicFile &&other) noexcept;
  AtomicFile &operator=(AtomicFile &&) = delete;
  ~AtomicFile();

  std::uint64_t size() const noexcept { return size_; }  ///< bytes appended so far
  Status append(std::span<const std::byte> bytes);
  Status append(std::string_view bytes) { return append(std::as_bytes(std::span(bytes))); }
  /// Writes without moving the end that `append` continues from.
  Status write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  Status commit();

 private:
  AtomicFile() = default;
  tl::unexpected<Error> error(const char *what) const;
  std::string path_, target_, temporary_, directory_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

/// Is this the file name of an AtomicFile's temporary file? A writer that was killed leaves one.
bool is_temporary_name(std::string_view name) noexcept;

/// AtomicFile in one call.
Status write_file(const std::string &path, std::string_view bytes);

}  // namespace switchyard
