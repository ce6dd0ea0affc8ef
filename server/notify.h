// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_NOTIFY_H_
#define MNEME_SERVER_NOTIFY_H_

#include <string>

namespace mneme::server {

// Tells the service manager how the daemon stands ("READY=1"), as
// sd_notify(3) does: one datagram to the socket that $NOTIFY_SOCKET names.
// Does nothing where there is none; a failure is logged.
void NotifyServiceManager(const std::string& state);

}  // namespace mneme::server

#endif  // MNEME_SERVER_NOTIFY_H_
