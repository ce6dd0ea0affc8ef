// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_OBSERVER_H_
#define MNEME_ENGINE_RUNTIME_OBSERVER_H_

#include <cstdint>
#include <string_view>

#include "absl/time/time.h"
#include "engine/runtime/types.h"

namespace mneme {

enum class SegmentResult { kApplied, kDuplicate, kGap, kConflict, kRejected };
enum class SessionEventKind {
  kCreate,
  kDelete,
  kExpire,
  kReset,
  kRollback,
  kFork,
  kExport,
  kImport,
  kQuarantine,
};
enum class PassKind { kBlock, kStep };

// What happens in the engine, as it happens. Every method returns quickly,
// takes no lock that is held while calling the engine, and may be called from
// any thread. `model` is a name from a small fixed set.
class Observer {
 public:
  virtual ~Observer() = default;

  // A pass over the model's weights ended: `rows` tokens of `sessions`
  // sessions in `elapsed`.
  virtual void OnPass(std::string_view /*model*/, PassKind /*kind*/,
                      int64_t /*rows*/, int64_t /*sessions*/,
                      absl::Duration /*elapsed*/) {}
  // A pass failed, for all its sessions or for one of them; what it was
  // computing was thrown away.
  virtual void OnPassFailed(std::string_view /*model*/) {}

  // An append brought a segment; `bytes` of it are new.
  virtual void OnSegment(std::string_view /*model*/, SegmentResult /*result*/,
                         int64_t /*bytes*/) {}
  // Tokens of segments and of committed prompts that a session took in.
  virtual void OnAbsorbed(std::string_view /*model*/, int64_t /*tokens*/) {}

  virtual void OnTokenGenerated(std::string_view /*model*/,
                                absl::Duration /*since_last*/) {}
  // `ok` is false if it failed.
  virtual void OnGenerationFinished(std::string_view /*model*/, bool /*ok*/,
                                    FinishReason /*reason*/,
                                    const GenerateStats& /*stats*/) {}
  virtual void OnScored(std::string_view /*model*/, int64_t /*tokens*/,
                        absl::Duration /*queue_time*/) {}

  virtual void OnSessionEvent(std::string_view /*model*/,
                              SessionEventKind /*event*/) {}
  // A session came into memory, or left it.
  virtual void OnSessionLoaded(std::string_view /*model*/,
                               const LoadReport& /*report*/) {}
  virtual void OnSessionEvicted(std::string_view /*model*/,
                                absl::Duration /*elapsed*/) {}
  // The state of a session that has so many tokens was stored.
  virtual void OnSnapshot(std::string_view /*model*/, int64_t /*position*/) {}
  // A load failed; `reason` is "damaged", "incompatible", or "unavailable".
  virtual void OnLoadFailed(std::string_view /*model*/,
                            std::string_view /*reason*/) {}
  // Something was refused; `reason` as in the error ("RAM_BUDGET").
  virtual void OnRejected(std::string_view /*model*/,
                          std::string_view /*reason*/) {}
};

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_OBSERVER_H_
