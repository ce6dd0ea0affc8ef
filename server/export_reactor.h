// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_EXPORT_REACTOR_H_
#define MNEME_SERVER_EXPORT_REACTOR_H_

#include <cstdint>
#include <memory>

#include "mneme/v1/sessions.pb.h"
#include "server/later.h"
#include "server/write_call.h"

namespace mneme::server {

// One Sessions.ExportSession call: a file, piece by piece.
class ExportReactor final : public WriteCall<v1::ExportSessionResponse> {
 public:
  ExportReactor(const ServiceContext& context,
                const v1::ExportSessionRequest& request);

 private:
  bool Fill(v1::ExportSessionResponse* response) override
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Close() override ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  absl::Status Begin(const v1::ExportSessionRequest& request)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  Later<std::unique_ptr<SessionExport>> made_ ABSL_GUARDED_BY(mu_);
  std::unique_ptr<SessionExport> file_ ABSL_GUARDED_BY(mu_);
  int64_t offset_ ABSL_GUARDED_BY(mu_) = 0;  // sent of it
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_EXPORT_REACTOR_H_
