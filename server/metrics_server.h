// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_METRICS_SERVER_H_
#define MNEME_SERVER_METRICS_SERVER_H_

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace mneme::server {

// Serves /metrics over HTTP.
class MetricsServer {
 public:
  // `listen` is HOST:PORT, port 0 for any. UNAVAILABLE if it cannot listen
  // there.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(
      const std::string& listen,
      std::vector<std::shared_ptr<prometheus::Collectable>> sources);

  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  // Where it listens, with the port that was bound.
  const std::string& address() const { return address_; }

 private:
  MetricsServer() = default;

  // The exposer holds its sources weakly.
  std::vector<std::shared_ptr<prometheus::Collectable>> sources_;
  std::unique_ptr<prometheus::Exposer> exposer_;
  std::string address_;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_METRICS_SERVER_H_
