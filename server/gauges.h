// SPDX-License-Identifier: Apache-2.0
//
// What is so right now, read when the metrics are asked for.
#ifndef MNEME_SERVER_GAUGES_H_
#define MNEME_SERVER_GAUGES_H_

#include <prometheus/collectable.h>
#include <prometheus/metric_family.h>

#include <vector>

#include "engine/engine.h"

namespace mneme::server {

// The engine's sessions and memory.
class EngineGauges final : public prometheus::Collectable {
 public:
  explicit EngineGauges(const Engine* engine) : engine_(engine) {}
  std::vector<prometheus::MetricFamily> Collect() const override;

 private:
  const Engine* const engine_;
};

// The process_* metrics that Prometheus clients share, from /proc/self. What
// cannot be read is left out.
class ProcessGauges final : public prometheus::Collectable {
 public:
  std::vector<prometheus::MetricFamily> Collect() const override;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_GAUGES_H_
