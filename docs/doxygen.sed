# SPDX-License-Identifier: Apache-2.0
# Plain C comments as documentation: the first one is the file's; behind code they belong to it, else to
# what follows.
1s#^/\* SPDX.*#/** @file#
s#^([[:space:]]*[^[:space:]/*].*)/\* #\1/**< #
s#^([[:space:]]*)/\* ([^-])#\1/** \2#
# Names in angle brackets are no HTML.
s#<(stdint|stddef)\.h>#\1.h#g
