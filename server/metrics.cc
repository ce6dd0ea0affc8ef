// SPDX-License-Identifier: Apache-2.0
#include "server/metrics.h"

#include <google/protobuf/descriptor.h>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/base/check.h"
#include "mneme/v1/admin.pb.h"
#include "mneme/v1/memory.pb.h"
#include "mneme/v1/models.pb.h"
#include "mneme/v1/operations.pb.h"
#include "mneme/v1/sessions.pb.h"
#include "server/status.h"

namespace mneme::server {
namespace {

using Buckets = prometheus::Histogram::BucketBoundaries;

// The OpenTelemetry conventions for generative models: server request
// duration, time to first token, time per output token.
const Buckets& RequestBuckets() {
  static const Buckets buckets{.01,  .02,  .04,  .08,   .16,   .32,   .64,
                               1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92};
  return buckets;
}
const Buckets& FirstTokenBuckets() {
  static const Buckets buckets{.001, .005, .01, .02, .04, .06, .08, .1,
                               .25,  .5,   .75, 1,   2.5, 5,   7.5, 10};
  return buckets;
}
const Buckets& OutputTokenBuckets() {
  static const Buckets buckets{.01, .025, .05, .075, .1, .15, .2,
                               .3,  .4,   .5,  .75,  1,  2.5};
  return buckets;
}
const Buckets& RpcBuckets() {
  static const Buckets buckets{.0005, .001, .0025, .005, .01, .025, .05, .1,
                               .25,   .5,   1,     2.5,  5,   10,   30,  60};
  return buckets;
}
const Buckets& StepBuckets() {
  static const Buckets buckets{.0005, .001, .0025, .005, .01, .02,
                               .04,   .08,  .16,   .32,  .64, 1.28};
  return buckets;
}
const Buckets& BatchBuckets() {
  static const Buckets buckets{1, 2, 4, 8, 16, 32, 64, 128};
  return buckets;
}

// Of session states that come and go.
const Buckets& LoadBuckets() {
  static const Buckets buckets{.001, .0025, .005, .01, .025, .05, .1,
                               .25,  .5,    1,    2.5, 5,    10,  30};
  return buckets;
}
const Buckets& AgeBuckets() {
  static const Buckets buckets{1e3, 3e3, 1e4, 3e4, 1e5, 3e5,
                               1e6, 3e6, 1e7, 3e7, 1e8};
  return buckets;
}

// The label values, in the order of their enums.
constexpr const char* kOperationNames[] = {"append", "generate", "score"};
constexpr const char* kResumeNames[] = {"append", "generate"};
constexpr const char* kStageNames[] = {"append", "prefill", "decode", "score"};
constexpr const char* kSegmentNames[] = {"applied", "duplicate", "gap",
                                         "conflict", "rejected"};
constexpr const char* kFinishNames[] = {"stop", "length", "cancel", "deadline",
                                        "error"};
constexpr int kFinishError = 4;
constexpr const char* kPhaseNames[] = {"prefill", "decode"};
constexpr const char* kEventNames[] = {
    "create", "delete", "expire",     "reset", "rollback", "fork",
    "export", "import", "quarantine", "load",  "evict",    "snapshot"};
constexpr int kLoadEvent = 9;
constexpr int kEvictEvent = 10;
constexpr int kSnapshotEvent = 11;
constexpr const char* kLoadFailureNames[] = {"damaged", "incompatible",
                                             "unavailable"};
constexpr const char* kRejectNames[] = {"ram_budget", "queue_full", "quota",
                                        "draining"};

template <typename Enum>
constexpr size_t Index(Enum value) {
  return static_cast<size_t>(value);
}

double Seconds(absl::Duration duration) {
  return absl::ToDoubleSeconds(duration);
}

}  // namespace

Metrics::Counters& Metrics::CounterFamily(const char* name, const char* help) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(*registry_);
}

Metrics::Gauges& Metrics::GaugeFamily(const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(*registry_);
}

Metrics::Histograms& Metrics::HistogramFamily(const char* name,
                                              const char* help) {
  return prometheus::BuildHistogram().Name(name).Help(help).Register(
      *registry_);
}

Metrics::Metrics(const BuildInfo& build)
    : registry_(std::make_shared<prometheus::Registry>()),
      model_info_(
          GaugeFamily("mneme_model_info", "Models that are served; always 1")),
      rpc_requests_(CounterFamily("mneme_rpc_requests_total",
                                  "Calls that ended, by method and code")),
      rejected_(CounterFamily("mneme_rejected_total",
                              "Work that was refused, by reason")) {
  GaugeFamily("mneme_build_info", "The running program; always 1")
      .Add({{"version", build.version},
            {"commit", build.commit},
            {"backend", build.backend}})
      .Set(1);
  for (const char* reason : kRejectNames) rejected_.Add({{"reason", reason}});
  AddMethods();
}

void Metrics::AddMethods() {
  auto& in_flight =
      GaugeFamily("mneme_rpc_in_flight", "Calls that run, by method");
  auto& duration = HistogramFamily("mneme_rpc_duration_seconds",
                                   "How long calls took, by method");
  for (const google::protobuf::FileDescriptor* file :
       {v1::Session::descriptor()->file(), v1::Model::descriptor()->file(),
        v1::GenerateRequest::descriptor()->file(),
        v1::Operation::descriptor()->file(), v1::Node::descriptor()->file()}) {
    for (int s = 0; s < file->service_count(); ++s) {
      const google::protobuf::ServiceDescriptor* service = file->service(s);
      for (int m = 0; m < service->method_count(); ++m) {
        const std::string name =
            absl::StrCat(service->full_name(), "/", service->method(m)->name());
        methods_[name] = {
            .name = name,
            .in_flight = &in_flight.Add({{"method", name}}),
            .duration = &duration.Add({{"method", name}}, RpcBuckets())};
        rpc_requests_.Add({{"method", name}, {"code", "OK"}});
      }
    }
  }
}

void Metrics::AddModel(const ModelInfo& info) {
  RemoveModel(info.name);
  absl::WriterMutexLock lock(&models_mu_);
  const std::string& name = info.name;
  Model& model = models_[name];
  // Adds a metric to a family, and remembers how to take it away.
  const auto add = [&model](auto& family, const auto&... arguments) {
    auto* metric = &family.Add(arguments...);
    model.removals.push_back([&family, metric] { family.Remove(metric); });
    return metric;
  };
  using Labels = std::map<std::string, std::string>;
  add(model_info_, Labels{{"model", name},
                          {"digest", info.fingerprint},
                          {"state_bytes", absl::StrCat(info.state_bytes)},
                          {"kind", info.kind}})
      ->Set(1);

  const auto counter = [&](const char* family, const char* help) {
    return add(CounterFamily(family, help), Labels{{"model", name}});
  };
  const auto histogram = [&](const char* family, const char* help,
                             const Buckets& buckets) {
    return add(HistogramFamily(family, help), Labels{{"model", name}}, buckets);
  };
  // A counter for each value of `label`.
  const auto counters = [&](const char* family, const char* help,
                            const char* label, const auto& values, auto* out) {
    for (size_t i = 0; i < out->size(); ++i) {
      (*out)[i] = add(CounterFamily(family, help),
                      Labels{{"model", name}, {label, values[i]}});
    }
  };
  const auto histograms = [&](const char* family, const char* help,
                              const char* label, const auto& values,
                              const Buckets& buckets, auto* out) {
    for (size_t i = 0; i < out->size(); ++i) {
      (*out)[i] = add(HistogramFamily(family, help),
                      Labels{{"model", name}, {label, values[i]}}, buckets);
    }
  };

  histograms("mneme_step_seconds", "Time of one pass over the model", "phase",
             kPhaseNames, StepBuckets(), &model.step_seconds);
  model.compute_seconds = {
      counter("mneme_prefill_seconds_total", "Time spent in block passes"),
      counter("mneme_decode_seconds_total", "Time spent in step passes")};
  model.batch_size =
      histogram("mneme_batch_size", "Sessions of a step pass", BatchBuckets());
  model.pass_failures =
      counter("mneme_pass_failures_total",
              "Passes that failed; what they computed was thrown away");
  counters("mneme_append_segments_total", "Segments received, by outcome",
           "result", kSegmentNames, &model.segments);
  model.append_bytes =
      counter("mneme_append_bytes_total", "Payload bytes added to histories");
  model.append_tokens =
      counter("mneme_append_tokens_total",
              "Tokens of segments and committed prompts that were taken in");
  model.credit_stalls =
      counter("mneme_credit_stalls_total",
              "Times an append stream waited for credit or for a generation");
  model.generated_tokens =
      counter("mneme_generated_tokens_total", "Tokens that were sampled");
  model.scored_tokens =
      counter("mneme_scored_tokens_total", "Tokens that were scored");
  counters("mneme_generations_total", "Generations that ended, by reason",
           "finish_reason", kFinishNames, &model.generations);
  model.time_to_first_token = histogram(
      "mneme_time_to_first_token_seconds",
      "From a generation's arrival to its first token", FirstTokenBuckets());
  model.time_per_output_token =
      histogram("mneme_time_per_output_token_seconds",
                "Between two tokens of a generation", OutputTokenBuckets());
  histograms("mneme_queue_wait_seconds",
             "From a request's arrival to its first pass", "op",
             kOperationNames, FirstTokenBuckets(), &model.queue_wait);
  histograms("mneme_request_duration_seconds",
             "How long append, generate and score calls took", "op",
             kOperationNames, RequestBuckets(), &model.request_duration);
  counters("mneme_session_events_total", "What happened to sessions", "event",
           kEventNames, &model.session_events);
  model.load_seconds = histogram("mneme_state_load_seconds",
                                 "Bringing a session into memory, with what is "
                                 "computed again",
                                 LoadBuckets());
  model.evict_seconds =
      histogram("mneme_state_evict_seconds",
                "Storing a session and taking it out of memory", LoadBuckets());
  counters("mneme_state_load_failures_total",
           "Sessions that could not be brought into memory", "reason",
           kLoadFailureNames, &model.load_failures);
  model.replayed_tokens =
      counter("mneme_replayed_tokens_total",
              "Tokens that were computed again from a journal");
  model.age_tokens = histogram(
      "mneme_session_age_tokens",
      "Tokens of a session each time its state is stored", AgeBuckets());
  counters("mneme_cancelled_total", "Calls that ended early by the client",
           "stage", kStageNames, &model.cancelled);
  counters("mneme_stream_resumes_total",
           "Streams that went on with an earlier one", "kind", kResumeNames,
           &model.resumes);
}

void Metrics::RemoveModel(const std::string& name) {
  absl::WriterMutexLock lock(&models_mu_);
  const auto found = models_.find(name);
  if (found == models_.end()) return;
  for (const auto& remove : found->second.removals) remove();
  models_.erase(found);
}

const Metrics::Model* Metrics::Find(std::string_view model) const {
  const auto found = models_.find(model);
  return found == models_.end() ? nullptr : &found->second;
}

void Metrics::OnPass(std::string_view model, PassKind kind, int64_t /*rows*/,
                     int64_t sessions, absl::Duration elapsed) {
  absl::ReaderMutexLock lock(&models_mu_);
  const Model* const m = Find(model);
  if (m == nullptr) return;
  m->step_seconds[Index(kind)]->Observe(Seconds(elapsed));
  m->compute_seconds[Index(kind)]->Increment(Seconds(elapsed));
  if (kind == PassKind::kStep) {
    m->batch_size->Observe(static_cast<double>(sessions));
  }
}

void Metrics::OnPassFailed(std::string_view model) {
  absl::ReaderMutexLock lock(&models_mu_);
  if (const Model* const m = Find(model)) m->pass_failures->Increment();
}

void Metrics::OnSegment(std::string_view model, SegmentResult result,
                        int64_t bytes) {
  absl::ReaderMutexLock lock(&models_mu_);
  const Model* const m = Find(model);
  if (m == nullptr) return;
  m->segments[Index(result)]->Increment();
  if (result != SegmentResult::kApplied) return;
  m->append_bytes->Increment(static_cast<double>(bytes));
}

void Metrics::OnAbsorbed(std::string_view model, int64_t tokens) {
  absl::ReaderMutexLock lock(&models_mu_);
  const Model* const m = Find(model);
  if (m != nullptr) m->append_tokens->Increment(static_cast<double>(tokens));
}

// A first token has no token before it: its `since_last` is zero.
void Metrics::OnTokenGenerated(std::string_view model,
                               absl::Duration since_last) {
  absl::ReaderMutexLock lock(&models_mu_);
  const Model* const m = Find(model);
  if (m == nullptr) return;
  m->generated_tokens->Increment();
  if (since_last > absl::ZeroDuration()) {
    m->time_per_output_token->Observe(Seconds(since_last));
  }
}

void Metrics::OnGenerationFinished(std::string_view model, bool ok,
                                   FinishReason reason,
                                   const GenerateStats& stats) {
  absl::ReaderMutexLock lock(&models_mu_);
  const Model* const m = Find(model);
  if (m == nullptr) return;
  m->generations[ok ? Index(reason) : kFinishError]->Increment();
  m->queue_wait[Index(Operation::kGenerate)]->Observe(
      Seconds(stats.queue_time));
  if (stats.generated_tokens > 0) {
    m->time_to_first_token->Observe(Seconds(stats.time_to_first_token));
  }
}

void Metrics::OnScored(std::string_view model, int64_t tokens,
                       absl::Duration queue_time) {
  absl::ReaderMutexLock lock(&models_mu_);
  const Model* const m = Find(model);
  if (m == nullptr) return;
  m->scored_tokens->Increment(static_cast<double>(tokens));
  m->queue_wait[Index(Operation::kScore)]->Observe(Seconds(queue_time));
}

void Metrics::OnSessionEvent(std::string_view model, SessionEventKind event) {
  absl::ReaderMutexLock lock(&models_mu_);
  if (const Model* const m = Find(model)) {
    m->session_events[Index(event)]->Increment();
  }
}

void Metrics::OnSessionLoaded(std::string_view model,
                              const LoadReport& report) {
  absl::ReaderMutexLock lock(&models_mu_);
  const Model* const m = Find(model);
  if (m == nullptr) return;
  m->session_events[kLoadEvent]->Increment();
  m->load_seconds->Observe(Seconds(report.load_time));
  m->replayed_tokens->Increment(static_cast<double>(report.replayed_tokens));
}

void Metrics::OnSessionEvicted(std::string_view model, absl::Duration elapsed) {
  absl::ReaderMutexLock lock(&models_mu_);
  const Model* const m = Find(model);
  if (m == nullptr) return;
  m->session_events[kEvictEvent]->Increment();
  m->evict_seconds->Observe(Seconds(elapsed));
}

void Metrics::OnSnapshot(std::string_view model, int64_t position) {
  absl::ReaderMutexLock lock(&models_mu_);
  const Model* const m = Find(model);
  if (m == nullptr) return;
  m->session_events[kSnapshotEvent]->Increment();
  m->age_tokens->Observe(static_cast<double>(position));
}

void Metrics::OnLoadFailed(std::string_view model, std::string_view reason) {
  absl::ReaderMutexLock lock(&models_mu_);
  const Model* const m = Find(model);
  if (m == nullptr) return;
  for (size_t i = 0; i < m->load_failures.size(); ++i) {
    if (reason == kLoadFailureNames[i]) m->load_failures[i]->Increment();
  }
}

void Metrics::OnRejected(std::string_view /*model*/, std::string_view reason) {
  rejected_.Add({{"reason", absl::AsciiStrToLower(std::string(reason))}})
      .Increment();
}

void Metrics::OnCreditStalled(std::string_view model) {
  absl::ReaderMutexLock lock(&models_mu_);
  if (const Model* const m = Find(model)) m->credit_stalls->Increment();
}

void Metrics::OnCancelled(std::string_view model, CancelStage stage) {
  absl::ReaderMutexLock lock(&models_mu_);
  if (const Model* const m = Find(model)) {
    m->cancelled[Index(stage)]->Increment();
  }
}

void Metrics::OnStreamResumed(std::string_view model, ResumeKind kind) {
  absl::ReaderMutexLock lock(&models_mu_);
  if (const Model* const m = Find(model)) m->resumes[Index(kind)]->Increment();
}

void Metrics::OnRequestEnded(std::string_view model, Operation op,
                             absl::Duration elapsed) {
  absl::ReaderMutexLock lock(&models_mu_);
  if (const Model* const m = Find(model)) {
    m->request_duration[Index(op)]->Observe(Seconds(elapsed));
  }
}

const Metrics::Method& Metrics::method(std::string_view name) const {
  const auto found = methods_.find(name);
  MNEME_CHECK(found != methods_.end());
  return found->second;
}

void Metrics::OnRpcEnded(const Method& method, grpc::StatusCode code,
                         absl::Duration elapsed) {
  method.duration->Observe(Seconds(elapsed));
  rpc_requests_.Add({{"method", method.name}, {"code", CodeName(code)}})
      .Increment();
}

}  // namespace mneme::server
