// SPDX-License-Identifier: Apache-2.0
/// The shared library is the static core linked whole; SY_API marks what it exports. A library
/// needs one source of its own.
#include <switchyard/switchyard.hpp>
