// SPDX-License-Identifier: Apache-2.0
#pragma once
/// Ctrl-C. Work that polls is asked to stop; work that cannot be asked is ended at once, which is
/// harmless because outputs are only written afterwards, and each one atomically.

#include <switchyard/engine.hpp>

namespace switchyard::cli {

/// Installs the handler of SIGINT and SIGTERM. `json`: how to report when ending at once.
void install_cancel_handler(bool json) noexcept;

/// True once an interrupt has come.
bool cancelled() noexcept;

/// The error that ends an interrupted command (exit code 130).
tl::unexpected<Error> cancelled_error();

/// An error if interrupted; called before outputs are written.
Status check_cancelled();

/// While one lives, an interrupt ends the process at once: for work without a progress hook.
class EndAtOnce {
 public:
  EndAtOnce() noexcept;
  ~EndAtOnce();
  EndAtOnce(const EndAtOnce &) = delete;
  EndAtOnce &operator=(const EndAtOnce &) = delete;
};

/// A progress function that shows a bar (stderr, only on a terminal) and stops after an interrupt.
Progress progress_bar(std::string label);

/// Erases a line that a bar or `show_status` has left.
void clear_status();

/// One line of status on stderr, only on a terminal; overwritten by the next.
void show_status(const std::string &line);

}  // namespace switchyard::cli
