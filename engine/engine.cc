// SPDX-License-Identifier: Apache-2.0
#include "engine/engine.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/errors.h"
#include "engine/base/machine.h"
#include "engine/engine_impl.h"
#include "engine/model/model.h"
#include "engine/ops/cpu/cpu_backend.h"
#include "engine/ops/reference/reference_backend.h"

namespace mneme {
namespace {

absl::Status Draining() {
  return WithReason(absl::UnavailableError("the server is draining"),
                    {.reason = "DRAINING", .metadata = {}});
}

}  // namespace

std::string EngineImpl::RandomHex(int words) {
  absl::MutexLock lock(&mutex_);
  std::string hex;
  for (int i = 0; i < words; ++i) {
    absl::StrAppendFormat(&hex, "%016x", absl::Uniform<uint64_t>(random_));
  }
  return hex;
}

absl::Status EngineImpl::Rejected(const std::string& model,
                                  absl::Status status) const {
  const absl::optional<ErrorReason> reason = GetReason(status);
  if (reason.has_value()) observer_->OnRejected(model, reason->reason);
  return status;
}

absl::Status EngineImpl::CheckAdmitting() const {
  absl::MutexLock lock(&mutex_);
  return draining_ ? Draining() : absl::OkStatus();
}

absl::Status EngineImpl::SetSessionMemory(int64_t bytes) {
  if (bytes <= 0) {
    return BadField("session_memory_bytes",
                    absl::StrCat("found ", bytes, ", wanted 1 or more"));
  }
  if (budget_.SetLimit(bytes)) return absl::OkStatus();
  const std::string used = absl::StrCat(budget_.used_bytes());
  return WithReason(
      absl::FailedPreconditionError(
          absl::StrCat("session memory: ", used, " bytes are in use, found ",
                       bytes, "; delete sessions first")),
      {.reason = "BUDGET_IN_USE", .metadata = {{"used_bytes", used}}});
}

EngineStats EngineImpl::stats() const {
  EngineStats stats;
  stats.threads = threads_;
  stats.arithmetic_level = backend_->arithmetic_level();
  stats.session_memory_used_bytes = budget_.used_bytes();
  stats.session_memory_limit_bytes = budget_.limit_bytes();
  stats.waiting_sessions = scheduler_.waiting();
  stats.generations = tasks_.Count(SessionActivity::kGenerating);
  absl::MutexLock lock(&mutex_);
  for (const auto& [name, served] : models_) {
    if (served == nullptr) continue;
    const int64_t count = sessions_.CountOf(*served);
    stats.models.push_back(
        {.model = name,
         .sessions = count,
         .state_bytes = count * served->model->layout()->state_bytes()});
  }
  return stats;
}

int64_t EngineImpl::Drain(absl::Time deadline) {
  {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
  }
  const std::vector<std::shared_ptr<Task>> left = tasks_.AwaitNone(deadline);
  for (const std::shared_ptr<Task>& task : left) {
    task->Abort(Draining(), Task::AbortIf::kWaiting);
    task->Cancel();  // if it is at work
    WakeLane(scheduler_, *task);
  }
  return static_cast<int64_t>(left.size());
}

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(
    const EngineOptions& options) {
  if (options.threads < 0 || options.threads > 1024) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads is ", options.threads, ", want 0 to 1024"));
  }
  if (options.session_memory_bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("session memory is ",
                                                   options.session_memory_bytes,
                                                   " bytes, want 0 or more"));
  }
  const int threads = options.threads > 0 ? options.threads : CoreCount();
  std::unique_ptr<Backend> backend;
  if (options.backend == "cpu") {
    backend = MakeCpuBackend(threads);
  } else if (options.backend == "reference") {
    backend = MakeReferenceBackend();
  } else {
    return absl::InvalidArgumentError(absl::StrCat(
        "backend is \"", options.backend, "\", want \"cpu\" or \"reference\""));
  }
  EngineOptions settled = options;
  settled.threads = threads;
  return std::make_unique<EngineImpl>(settled, std::move(backend));
}

}  // namespace mneme
