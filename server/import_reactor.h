// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_SERVER_IMPORT_REACTOR_H_
#define MNEME_SERVER_IMPORT_REACTOR_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/optional.h"
#include "mneme/v1/sessions.pb.h"
#include "server/later.h"
#include "server/service_context.h"
#include "server/stream_pump.h"

namespace mneme::server {

// One Sessions.ImportSession call. Owns itself. The file goes to the engine
// piece by piece as it comes. If the request was made before, or is being made
// by another call, that answer is waited for and the file is not read.
class ImportReactor final
    : public grpc::ServerReadReactor<v1::ImportSessionRequest>,
      public PumpedStream {
 public:
  // `reply` lives until OnDone.
  ImportReactor(const ServiceContext& context, v1::Session* reply);

  void OnReadDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;
  void Advance() override;

 private:
  absl::Status TakeMessage() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  absl::Status Open(const v1::ImportSessionRequest::Open& open)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Ends the call, and the work if the engine does not have all of it.
  void Fail(const absl::Status& status) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const ServiceContext context_;
  v1::Session* const reply_;
  CountedRpc rpc_;

  absl::Mutex mu_;
  std::string resource_ ABSL_GUARDED_BY(mu_);  // that the call is about
  v1::ImportSessionRequest request_ ABSL_GUARDED_BY(mu_);  // being read
  bool opened_ ABSL_GUARDED_BY(mu_) = false;
  // If this call does the work: there is room for the file.
  Later<std::unique_ptr<SessionImport>> begin_ ABSL_GUARDED_BY(mu_);
  // While this call does the work and the file is not complete: where it goes,
  // and who hears what comes of it.
  std::unique_ptr<SessionImport> import_ ABSL_GUARDED_BY(mu_);
  Engine::Done<SessionInfo> done_ ABSL_GUARDED_BY(mu_);
  Later<v1::Session> answer_ ABSL_GUARDED_BY(mu_);
  absl::optional<grpc::Status> outcome_ ABSL_GUARDED_BY(mu_);
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_IMPORT_REACTOR_H_
