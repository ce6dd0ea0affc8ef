// SPDX-License-Identifier: Apache-2.0
//
// What happened in the daemon, counted. Every series is looked up when its
// model or method becomes known; counting then is an atomic addition, and for
// a histogram prometheus-cpp's own short lock.
#ifndef MNEME_SERVER_METRICS_H_
#define MNEME_SERVER_METRICS_H_

#include <grpcpp/support/status.h>
#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "engine/base/clock.h"
#include "engine/engine.h"

namespace mneme::server {

// The requests that take time, and where one of them was cancelled.
enum class Operation { kAppend, kGenerate, kScore };
enum class ResumeKind { kAppend, kGenerate };
enum class CancelStage { kAppend, kPrefill, kDecode, kScore };

// Thread-safe.
class Metrics final : public Observer {
 public:
  struct BuildInfo {
    std::string version;
    std::string commit;
    std::string backend;
  };
  explicit Metrics(const BuildInfo& build);

  // Makes the model's series, from zero; what is said about a model before is
  // not counted. RemoveModel takes them away.
  void AddModel(const ModelInfo& model);
  void RemoveModel(const std::string& name);

  std::shared_ptr<prometheus::Registry> registry() const { return registry_; }

  // Observer. What concerns a model that was not added is not counted. Credit
  // stalls are counted by the reactors, which see them first.
  void OnPass(std::string_view model, PassKind kind, int64_t rows,
              int64_t sessions, absl::Duration elapsed) override;
  void OnPassFailed(std::string_view model) override;
  void OnSegment(std::string_view model, SegmentResult result,
                 int64_t bytes) override;
  void OnAbsorbed(std::string_view model, int64_t tokens) override;
  void OnTokenGenerated(std::string_view model,
                        absl::Duration since_last) override;
  void OnGenerationFinished(std::string_view model, bool ok,
                            FinishReason reason,
                            const GenerateStats& stats) override;
  void OnScored(std::string_view model, int64_t tokens,
                absl::Duration queue_time) override;
  void OnSessionEvent(std::string_view model, SessionEventKind event) override;
  void OnSessionLoaded(std::string_view model,
                       const LoadReport& report) override;
  void OnSessionEvicted(std::string_view model,
                        absl::Duration elapsed) override;
  void OnSnapshot(std::string_view model, int64_t position) override;
  void OnLoadFailed(std::string_view model, std::string_view reason) override;
  void OnRejected(std::string_view model, std::string_view reason) override;

  // The server's own.
  void OnCreditStalled(std::string_view model);
  void OnCancelled(std::string_view model, CancelStage stage);
  void OnStreamResumed(std::string_view model, ResumeKind kind);
  void OnRequestEnded(std::string_view model, Operation op,
                      absl::Duration elapsed);

  // Of one method of the services; "mneme.v1.Sessions/GetSession".
  struct Method {
    std::string name;
    prometheus::Gauge* in_flight = nullptr;
    prometheus::Histogram* duration = nullptr;
  };
  // REQUIRES: a method of the public contract.
  const Method& method(std::string_view name) const;
  void OnRpcEnded(const Method& method, grpc::StatusCode code,
                  absl::Duration elapsed);

 private:
  static constexpr int kOperations = 3;
  static constexpr int kCancelStages = 4;
  static constexpr int kSegmentResults = 5;
  static constexpr int kFinishReasons = 5;  // and "error"
  static constexpr int kPassKinds = 2;
  static constexpr int kSessionEvents = 12;  // and load, evict, snapshot

  struct Model {
    std::array<prometheus::Histogram*, kPassKinds> step_seconds{};
    std::array<prometheus::Counter*, kPassKinds> compute_seconds{};
    prometheus::Histogram* batch_size = nullptr;
    prometheus::Counter* pass_failures = nullptr;
    std::array<prometheus::Counter*, kSegmentResults> segments{};
    prometheus::Counter* append_bytes = nullptr;
    prometheus::Counter* append_tokens = nullptr;
    prometheus::Counter* credit_stalls = nullptr;
    prometheus::Counter* generated_tokens = nullptr;
    prometheus::Counter* scored_tokens = nullptr;
    std::array<prometheus::Counter*, kFinishReasons> generations{};
    prometheus::Histogram* time_to_first_token = nullptr;
    prometheus::Histogram* time_per_output_token = nullptr;
    std::array<prometheus::Histogram*, kOperations> queue_wait{};
    std::array<prometheus::Histogram*, kOperations> request_duration{};
    std::array<prometheus::Counter*, kSessionEvents> session_events{};
    prometheus::Histogram* load_seconds = nullptr;
    prometheus::Histogram* evict_seconds = nullptr;
    std::array<prometheus::Counter*, 3> load_failures{};
    prometheus::Counter* replayed_tokens = nullptr;
    prometheus::Histogram* age_tokens = nullptr;
    std::array<prometheus::Counter*, kCancelStages> cancelled{};
    std::array<prometheus::Counter*, 2> resumes{};
    std::vector<std::function<void()>> removals;  // of all of the above
  };

  using Counters = prometheus::Family<prometheus::Counter>;
  using Gauges = prometheus::Family<prometheus::Gauge>;
  using Histograms = prometheus::Family<prometheus::Histogram>;

  Counters& CounterFamily(const char* name, const char* help);
  Gauges& GaugeFamily(const char* name, const char* help);
  Histograms& HistogramFamily(const char* name, const char* help);
  void AddMethods();
  const Model* Find(std::string_view model) const
      ABSL_SHARED_LOCKS_REQUIRED(models_mu_);

  const std::shared_ptr<prometheus::Registry> registry_;
  Gauges& model_info_;
  Counters& rpc_requests_;
  Counters& rejected_;
  // Held while a model's metrics are written, so that they can go.
  absl::Mutex models_mu_;
  std::map<std::string, Model, std::less<>> models_ ABSL_GUARDED_BY(models_mu_);
  std::map<std::string, Method, std::less<>> methods_;
};

// Counts one call: in when made, out when ended.
class CountedRpc {
 public:
  CountedRpc(Metrics* metrics, const Clock* clock, std::string_view method)
      : metrics_(metrics),
        clock_(clock),
        method_(metrics->method(method)),
        start_(clock->Monotonic()) {
    method_.in_flight->Increment();
  }

  // Once. Returns how long the call took.
  absl::Duration End(grpc::StatusCode code) {
    const absl::Duration elapsed = clock_->Monotonic() - start_;
    method_.in_flight->Decrement();
    metrics_->OnRpcEnded(method_, code, elapsed);
    return elapsed;
  }

 private:
  Metrics* const metrics_;
  const Clock* const clock_;
  const Metrics::Method& method_;
  const absl::Duration start_;
};

}  // namespace mneme::server

#endif  // MNEME_SERVER_METRICS_H_
