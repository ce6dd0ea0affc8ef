// SPDX-License-Identifier: Apache-2.0
#include "server/metrics_server.h"

#include <exception>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "server/listen_address.h"

namespace mneme::server {

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const std::string& listen,
    std::vector<std::shared_ptr<prometheus::Collectable>> sources) {
  auto server = std::unique_ptr<MetricsServer>(new MetricsServer());
  server->sources_ = std::move(sources);
  try {
    server->exposer_ = std::make_unique<prometheus::Exposer>(listen);
  } catch (const std::exception& error) {  // CivetException
    return absl::UnavailableError(
        absl::StrCat("cannot serve metrics on ", listen, ": ", error.what()));
  }
  for (const auto& source : server->sources_) {
    server->exposer_->RegisterCollectable(source);
  }
  const std::vector<int> ports = server->exposer_->GetListeningPorts();
  if (ports.empty()) {
    return absl::UnavailableError(
        absl::StrCat("cannot serve metrics on ", listen));
  }
  server->address_ =
      absl::StrCat(listen.substr(0, listen.rfind(':')), ":", ports[0]);
  return server;
}

MetricsServer::~MetricsServer() {
  if (exposer_ == nullptr) return;
  // It looks every two seconds whether it is to end, and when someone comes.
  absl::Notification ended;
  std::thread ending([this, &ended] {
    exposer_.reset();
    ended.Notify();
  });
  do {
    Knock(address_);
  } while (!ended.WaitForNotificationWithTimeout(absl::Milliseconds(5)));
  ending.join();
}

}  // namespace mneme::server
