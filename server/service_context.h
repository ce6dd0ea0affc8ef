// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_SERVICE_CONTEXT_H_
#define MNEME_SERVER_SERVICE_CONTEXT_H_

#include "engine/base/clock.h"
#include "engine/engine.h"
#include "server/metrics.h"
#include "server/model_catalog.h"
#include "server/operation_table.h"
#include "server/request_id_table.h"
#include "server/stream_pump.h"

namespace mneme::server {

// What the services share. All of it outlives them and their calls.
struct ServiceContext {
  Engine* engine = nullptr;
  Metrics* metrics = nullptr;
  StreamPump* pump = nullptr;
  RequestIdTable* request_ids = nullptr;
  OperationTable* operations = nullptr;
  ModelCatalog* models = nullptr;
  const Clock* clock = nullptr;
  // Of a unary call that waits and whose client set no deadline.
  absl::Duration default_deadline = absl::Seconds(10);
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_SERVICE_CONTEXT_H_
