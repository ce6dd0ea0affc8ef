// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_BUILD_INFO_H_
#define MNEME_SERVER_BUILD_INFO_H_

namespace mneme::server {

extern const char kVersion[];  // "0.1.0"
extern const char kCommit[];   // short git hash at configure time, "unknown"

}  // namespace mneme::server

#endif  // MNEME_SERVER_BUILD_INFO_H_
