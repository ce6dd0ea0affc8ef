// SPDX-License-Identifier: Apache-2.0
#include "tests/fault/stored_engine_fixture.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/base/status_macros.h"
#include "engine/ops/cpu/cpu_backend.h"
#include "engine/store/kv_session_store.h"
#include "engine/store/store_keys.h"
#include "engine/tools/presets.h"

namespace mneme {
namespace {

using Change = KvStore::Change;
using Space = KvStore::Space;

constexpr Space kAllSpaces[] = {Space::kMeta, Space::kJournal, Space::kBlobs};
// Behind every key.
const char* const kEnd = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";

}  // namespace

bool Eventually(absl::FunctionRef<bool()> holds, absl::Duration patience) {
  const absl::Time deadline = absl::Now() + patience;
  while (!holds()) {
    if (absl::Now() > deadline) return false;
    absl::SleepFor(absl::Milliseconds(1));
  }
  return true;
}

bool PutsBlob(const KvStore::Batch& batch) {
  return std::any_of(batch.begin(), batch.end(), [](const Change& change) {
    return change.kind == Change::Kind::kPut && change.space == Space::kBlobs;
  });
}

bool PutsRecord(const KvStore::Batch& batch) {
  return std::any_of(batch.begin(), batch.end(), [](const Change& change) {
    return change.kind == Change::Kind::kPut && change.space == Space::kMeta &&
           change.key.rfind(kRecordPrefix, 0) == 0;
  });
}

KvFaults::Picks PutsRecordOf(const std::string& uid) {
  return [key = RecordKey(*UidBytes(uid))](const KvStore::Batch& batch) {
    return std::any_of(batch.begin(), batch.end(), [&](const Change& change) {
      return change.kind == Change::Kind::kPut &&
             change.space == Space::kMeta && change.key == key;
    });
  };
}

bool Journals(const KvStore::Batch& batch,
              absl::FunctionRef<bool(const JournalRecord&)> wanted) {
  for (const Change& change : batch) {
    if (change.kind != Change::Kind::kPut || change.space != Space::kJournal) {
      continue;
    }
    const auto payload = Unseal(Space::kJournal, change.key, change.value);
    if (!payload.ok()) continue;
    const auto record = DecodeJournalRecord(*payload);
    if (record.ok() && wanted(*record)) return true;
  }
  return false;
}

bool JournalsAsk(const KvStore::Batch& batch) {
  return Journals(batch, [](const JournalRecord& record) {
    return std::holds_alternative<AskRecord>(record.body);
  });
}

bool JournalsEnd(const KvStore::Batch& batch) {
  return Journals(batch, [](const JournalRecord& record) {
    const auto* said = std::get_if<SaidRecord>(&record.body);
    return said != nullptr && said->end.has_value();
  });
}

void StoredEngineTest::SetUp() {
  const ModelConfig config = *PresetConfig("ttt-linear-tiny");
  ASSERT_THAT(WriteRandomModel(config, 1, model_dir_.path()), IsOk());
}

absl::Status StoredEngineTest::TryStart(const EngineOptions& options,
                                        Models models) {
  Stop();
  MNEME_ASSIGN_OR_RETURN(
      std::unique_ptr<KvSessionStore> store,
      KvSessionStore::Open(
          std::make_unique<FaultKvStore>(kv_, faults_, durable_), {}));
  auto engine = std::make_unique<EngineImpl>(options, MakeCpuBackend(1),
                                             std::move(store));
  MNEME_RETURN_IF_ERROR(engine->ReadStore());
  if (models == Models::kLoaded) {
    MNEME_RETURN_IF_ERROR(engine->LoadModel("tiny", model_dir_.path()));
  }
  engine_ = std::move(engine);
  return absl::OkStatus();
}

void StoredEngineTest::Stop() {
  faults_->Heal();
  faults_->Release();
  engine_.reset();
}

std::shared_ptr<KvStore> StoredEngineTest::CopyOfStore() const {
  auto copy = std::make_shared<MemoryKvStore>();
  for (const Space space : kAllSpaces) {
    KvStore::Batch batch;
    EXPECT_THAT(kv_->Scan(space, "", kEnd,
                          [&](std::string_view key, std::string_view value) {
                            batch.push_back({.kind = Change::Kind::kPut,
                                             .space = space,
                                             .key = std::string(key),
                                             .value = std::string(value)});
                            return true;
                          }),
                IsOk());
    EXPECT_THAT(copy->Write(batch, /*sync=*/true), IsOk());
  }
  return copy;
}

void StoredEngineTest::CrashTo(std::shared_ptr<KvStore> left) {
  Stop();  // on the store that nobody sees again
  kv_ = std::move(left);
}

void StoredEngineTest::Crash() {
  AwaitStored();
  CrashTo(CopyOfStore());
}

void StoredEngineTest::AwaitStored() {
  ASSERT_TRUE(
      Eventually([this] { return engine_->stats().durable_lag_bytes == 0; }));
}

absl::Status StoredEngineTest::Make(const std::string& id) {
  return engine_
      ->CreateSession({.id = id, .model = "tiny", .unit = SessionUnit::kText})
      .status();
}

void StoredEngineTest::Create(const std::string& id, const std::string& text) {
  ASSERT_THAT(Make(id), IsOk());
  ASSERT_THAT(Append(id, text), IsOk());
  AwaitStored();
}

UpdateSessionOptions StoredEngineTest::Labelled(const std::string& id,
                                                const std::string& value) {
  return {.session = id,
          .labels = std::map<std::string, std::string>{{"k", value}}};
}

absl::StatusOr<SessionInfo> StoredEngineTest::Label(const std::string& id,
                                                    const std::string& value) {
  return engine_->UpdateSession(Labelled(id, value));
}

Later<SessionInfo> StoredEngineTest::Delete(const std::string& id) {
  Later<SessionInfo> deleted;
  DeleteOptions options;
  options.session = id;
  engine_->DeleteSession(options, deleted.done());
  return deleted;
}

absl::StatusOr<SessionInfo> StoredEngineTest::AwaitDescription(
    const std::string& id) {
  Later<SessionInfo> described;
  engine_->DescribeSession(id, described.done());
  return described.Await();
}

std::string StoredEngineTest::Stand(const std::string& id) {
  const absl::StatusOr<SessionInfo> info = AwaitDescription(id);
  if (!info.ok()) return info.status().ToString();
  return absl::StrCat("offset ", info->next_offset, ", position ",
                      info->position, ", state ", info->state_digest,
                      ", history ", info->history_digest);
}

std::string StoredEngineTest::StandOf(const std::string& text) {
  EXPECT_THAT(Make("fresh"), IsOk());
  EXPECT_THAT(Append("fresh", text), IsOk());
  std::string stand = Stand("fresh");
  EXPECT_THAT(engine_->DeleteSession("fresh", ""), IsOk());
  return stand;
}

int64_t StoredEngineTest::Entries(Space space) const {
  int64_t entries = 0;
  EXPECT_THAT(kv_->Scan(space, "", kEnd,
                        [&](std::string_view, std::string_view) {
                          ++entries;
                          return true;
                        }),
              IsOk());
  return entries;
}

int64_t StoredEngineTest::Bytes(Space space) const {
  int64_t bytes = 0;
  EXPECT_THAT(kv_->Scan(space, "", kEnd,
                        [&](std::string_view, std::string_view value) {
                          bytes += static_cast<int64_t>(value.size());
                          return true;
                        }),
              IsOk());
  return bytes;
}

}  // namespace mneme
