// SPDX-License-Identifier: Apache-2.0
/// switchyard-worker probe|gate|check|remote REQUEST: runs plugin code on behalf of a host and
/// answers on the descriptor that was its standard output. Not for people.
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstring>

#include "check/check.hpp"
#include "host/log.hpp"
#include "worker/protocol.hpp"
#include "worker/remote.hpp"

namespace {

/// The answers' descriptor; whatever plugin code prints goes nowhere.
int take_output() {
  const int out = fcntl(1, F_DUPFD_CLOEXEC, 3);
  const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
  if (out < 0 || null < 0) return -1;
  dup2(null, 1);
  dup2(null, 2);
  return out;
}

}  // namespace

int main(int argc, char **argv) {
  using namespace switchyard;
  if (argc != 3) return 2;
  const bool remote = std::strcmp(argv[1], "remote") == 0;
  // The signal comes with the end of the thread that started this process, which may be early for
  // one that stays; that one watches its socket.
  if (!remote) prctl(PR_SET_PDEATHSIG, SIGKILL);
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  if (!set_log_level("off")) return 2;
  if (remote) {
    const auto request = decode_probe(argv[2]);
    return request ? remote::worker_remote(*request) : 2;
  }
  const int out = take_output();
  if (out < 0) return 2;
  if (std::strcmp(argv[1], "probe") == 0) {
    const auto request = decode_probe(argv[2]);
    return request ? worker_probe(*request, out) : 2;
  }
  if (std::strcmp(argv[1], "gate") == 0) {
    const auto request = decode_gate(argv[2]);
    return request ? worker_gate(*request, out) : 2;
  }
  if (std::strcmp(argv[1], "check") == 0) {
    const auto request = check::decode_section(argv[2]);
    return request ? check::worker_check(*request, out) : 2;
  }
  return 2;
}
