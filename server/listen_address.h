// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_LISTEN_ADDRESS_H_
#define MNEME_SERVER_LISTEN_ADDRESS_H_

#include <string>

#include "absl/status/status.h"

namespace mneme::server {

// HOST:PORT, port 0 for any; not whether it can be bound.
bool IsHostAndPort(const std::string& address);

// HOST:PORT or unix:PATH. INVALID_ARGUMENT saying what is wanted, without
// naming the address.
absl::Status CheckListenAddress(const std::string& address);

// Why nothing could listen at `address`, a good one: UNAVAILABLE naming it and
// the reason, such as another program there, a file that is no socket, missing
// rights. gRPC itself does not tell, and would take over a unix socket that
// another program listens on.
absl::Status CheckCanListen(const std::string& address);

// Connects to whoever listens at HOST:PORT, and is gone again. Waits for
// nothing.
void Knock(const std::string& address);

}  // namespace mneme::server

#endif  // MNEME_SERVER_LISTEN_ADDRESS_H_
