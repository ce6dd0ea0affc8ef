// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_FAULT_STORED_ENGINE_FIXTURE_H_
#define MNEME_TESTS_FAULT_STORED_ENGINE_FIXTURE_H_

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <variant>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "engine/engine_impl.h"
#include "engine/store/journal_record.h"
#include "engine/store/kv_store.h"
#include "engine/store/memory/memory_kv_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/engine_driver.h"
#include "tests/support/fault_kv_store.h"
#include "tests/support/later.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {

// Whether `holds` does before `patience` ends.
bool Eventually(absl::FunctionRef<bool()> holds,
                absl::Duration patience = kPatience);

// -- Which writes ------------------------------------------------------------

// A snapshot's contents.
bool PutsBlob(const KvStore::Batch& batch);
// A session's record.
bool PutsRecord(const KvStore::Batch& batch);
// That of the session with this uid.
KvFaults::Picks PutsRecordOf(const std::string& uid);
// Journal records for which `wanted` is true.
bool Journals(const KvStore::Batch& batch,
              absl::FunctionRef<bool(const JournalRecord&)> wanted);
// That something is to be computed.
bool JournalsAsk(const KvStore::Batch& batch);
// That what was asked for has ended.
bool JournalsEnd(const KvStore::Batch& batch);

// -- The fixture -------------------------------------------------------------

// Engines, one after the other, with one model of random weights, "tiny", on a
// store that fails as it is told to and outlives them.
class StoredEngineTest : public testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override { Stop(); }

  // Without snapshots of its own, unless much is appended.
  static EngineOptions Options() {
    return {.threads = 1,
            .session_memory_bytes = 1 << 30,
            .snapshot_interval_tokens = 1 << 30};
  }
  enum class Models { kLoaded, kNone };
  // On what is stored; what ran before ends cleanly.
  absl::Status TryStart(const EngineOptions& options = Options(),
                        Models models = Models::kLoaded);
  void Start(const EngineOptions& options = Options()) {
    ASSERT_THAT(TryStart(options), IsOk());
  }
  // A clean end: by then nothing fails any more.
  void Stop();
  // What a crash right now would leave.
  std::shared_ptr<KvStore> CopyOfStore() const;
  // The end of a process that had stored no more than `left`.
  void CrashTo(std::shared_ptr<KvStore> left);
  // The same, when nothing waits to be stored.
  void Crash();
  // All that was queued is in the store, or has failed, and that was told.
  void AwaitStored();

  absl::Status Make(const std::string& id);
  void Create(const std::string& id) { ASSERT_THAT(Make(id), IsOk()); }
  // A session with this text, all of it stored.
  void Create(const std::string& id, const std::string& text);
  absl::Status Append(const std::string& id, const std::string& text) {
    return AppendAll(*engine_, id, text);
  }
  absl::StatusOr<SessionInfo> Label(const std::string& id,
                                    const std::string& value);
  static UpdateSessionOptions Labelled(const std::string& id,
                                       const std::string& value);
  // Starts one.
  Later<SessionInfo> Delete(const std::string& id);

  // As Describe, but not for longer than a test waits.
  absl::StatusOr<SessionInfo> AwaitDescription(const std::string& id);
  // Where a session stands, with its digests, or why that cannot be said.
  std::string Stand(const std::string& id);
  // Where one stands that was given `text` and nothing else.
  std::string StandOf(const std::string& text);
  // What the store has in `space`.
  int64_t Entries(KvStore::Space space) const;
  int64_t Bytes(KvStore::Space space) const;

  TempDir model_dir_;
  std::shared_ptr<KvStore> kv_ = std::make_shared<MemoryKvStore>();
  const std::shared_ptr<KvFaults> faults_ = std::make_shared<KvFaults>();
  // What the store says of itself.
  bool durable_ = true;
  std::unique_ptr<Engine> engine_;
};

}  // namespace mneme

#endif  // MNEME_TESTS_FAULT_STORED_ENGINE_FIXTURE_H_
