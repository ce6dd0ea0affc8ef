// SPDX-License-Identifier: Apache-2.0
#include "tests/bench/store_measurements.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "engine/base/status_macros.h"
#include "engine/engine.h"
#include "tests/bench/limits.h"
#include "tests/support/engine_driver.h"

namespace mneme::bench {
namespace {

constexpr char kModel[] = "m";
constexpr int64_t kMemoryBytes = int64_t{1} << 30;

double Seconds() {
  return std::chrono::duration<double>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

double Quantile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const auto at = static_cast<size_t>(share * (values.size() - 1) + 0.5);
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[at];
}

Percentiles PercentilesOf(const std::vector<double>& values) {
  return {.p50 = Quantile(values, 0.5), .p99 = Quantile(values, 0.99)};
}

// An engine whose sessions are below the bench's folder.
absl::StatusOr<std::unique_ptr<Engine>> Open(const StoreBench& bench) {
  MNEME_ASSIGN_OR_RETURN(
      std::unique_ptr<Engine> engine,
      Engine::Create({.threads = bench.threads,
                      .session_memory_bytes = kMemoryBytes,
                      .data_directory = bench.folder + "/data"}));
  MNEME_RETURN_IF_ERROR(engine->LoadModel(kModel, bench.model));
  return engine;
}

class Folder {
 public:
  explicit Folder(const std::string& path) : path_(path) { Remove(); }
  ~Folder() { Remove(); }

 private:
  void Remove() {
    std::error_code error;
    std::filesystem::remove_all(path_, error);
  }
  const std::string path_;
};

template <typename T>
absl::StatusOr<T> Wait(
    const std::function<void(std::function<void(absl::StatusOr<T>)>)>& start) {
  absl::Notification ended;
  absl::StatusOr<T> outcome;
  start([&](absl::StatusOr<T> told) {
    outcome = std::move(told);
    ended.Notify();
  });
  ended.WaitForNotification();
  return outcome;
}

// A session's only writer.
class Writer {
 public:
  static absl::StatusOr<std::unique_ptr<Writer>> Make(Engine& engine,
                                                      const std::string& id) {
    MNEME_RETURN_IF_ERROR(
        engine.CreateSession({.id = id, .model = kModel}).status());
    auto writer = std::make_unique<Writer>();
    MNEME_ASSIGN_OR_RETURN(
        writer->stream_, engine.OpenAppend({.session = id}, &writer->waiter_));
    return writer;
  }

  // Until it is durable.
  absl::Status Append(int64_t bytes) {
    MNEME_ASSIGN_OR_RETURN(
        const AppendStream::Taken taken,
        stream_->Write(
            {.offset = offset_, .payload = std::string(bytes, 'x')}));
    if (taken.offer != Offer::kTaken) return absl::InternalError("no room");
    offset_ += bytes;
    return WaitUntil([this](const AppendProgress& progress) {
      return progress.durable_offset >= offset_;
    });
  }
  // Until it is computed too.
  absl::Status Settle() {
    return WaitUntil(
        [](const AppendProgress& progress) { return progress.idle; });
  }

 private:
  absl::Status WaitUntil(
      const std::function<bool(const AppendProgress&)>& reached) {
    while (!reached(stream_->progress())) {
      MNEME_RETURN_IF_ERROR(stream_->status());
      if (!waiter_.Wait()) return absl::DeadlineExceededError("no progress");
    }
    return absl::OkStatus();
  }

  ProgressWaiter waiter_;
  int64_t offset_ = 0;
  std::unique_ptr<AppendStream> stream_;
};

}  // namespace

absl::StatusOr<DurableAppends> AppendDurably(const StoreBench& bench,
                                             int64_t bytes, int rounds) {
  const Folder folder(bench.folder);
  MNEME_ASSIGN_OR_RETURN(PlainFiles plain,
                         PlainFiles::Make(bench.folder + "/plain"));
  MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, Open(bench));
  MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<Writer> writer,
                         Writer::Make(*engine, "s"));
  std::vector<double> appends;
  std::vector<double> writes;
  for (int round = 0; round < rounds; ++round) {
    MNEME_ASSIGN_OR_RETURN(const double written, plain.AppendSynced(bytes));
    const double start = Seconds();
    MNEME_RETURN_IF_ERROR(writer->Append(bytes));
    const double appended = Seconds() - start;
    MNEME_RETURN_IF_ERROR(writer->Settle());
    if (round == 0) continue;
    writes.push_back(written);
    appends.push_back(appended);
  }
  return DurableAppends{.append = PercentilesOf(appends),
                        .disk = PercentilesOf(writes)};
}

absl::StatusOr<GroupedAppends> AppendTogether(const StoreBench& bench,
                                              int sessions, int64_t bytes,
                                              int rounds) {
  // Less than a session takes without computing any.
  const int64_t appends = kMaxInflightBytes / bytes / 4;
  const Folder folder(bench.folder);
  MNEME_ASSIGN_OR_RETURN(PlainFiles plain,
                         PlainFiles::Make(bench.folder + "/plain"));
  MNEME_ASSIGN_OR_RETURN(const std::unique_ptr<Engine> engine, Open(bench));
  std::vector<std::unique_ptr<Writer>> writers;
  for (int i = 0; i < sessions; ++i) {
    MNEME_ASSIGN_OR_RETURN(std::unique_ptr<Writer> writer,
                           Writer::Make(*engine, "s" + std::to_string(i)));
    writers.push_back(std::move(writer));
  }
  std::vector<double> together;
  std::vector<double> alone;
  for (int round = 0; round < rounds; ++round) {
    double start = Seconds();
    for (int64_t i = 0; i < appends; ++i) {
      MNEME_RETURN_IF_ERROR(plain.AppendSynced(bytes).status());
    }
    alone.push_back(static_cast<double>(appends) / (Seconds() - start));
    std::vector<absl::Status> failures(sessions);
    std::vector<std::thread> threads;
    start = Seconds();
    for (int i = 0; i < sessions; ++i) {
      threads.emplace_back([&, i] {
        for (int64_t k = 0; k < appends; ++k) {
          failures[i].Update(writers[i]->Append(bytes));
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    together.push_back(static_cast<double>(sessions * appends) /
                       (Seconds() - start));
    for (const absl::Status& failure : failures) {
      MNEME_RETURN_IF_ERROR(failure);
    }
    for (const auto& writer : writers) MNEME_RETURN_IF_ERROR(writer->Settle());
  }
  return GroupedAppends{.appends_per_second = Quantile(together, 0.5),
                        .disk_writes_per_second = Quantile(alone, 0.5)};
}

namespace {

// Puts the one session in memory out of it; seconds that it takes. It may
// still be held by what ended just now.
absl::StatusOr<double> Evict(Engine& engine) {
  const double deadline = Seconds() + 60;
  absl::Status refused;
  while (Seconds() < deadline) {
    const EngineStats stats = engine.stats();
    const double start = Seconds();
    refused = engine.SetSessionMemory(stats.session_memory_used_bytes - 1);
    const double seconds = Seconds() - start;
    MNEME_RETURN_IF_ERROR(engine.SetSessionMemory(kMemoryBytes));
    if (refused.ok()) return seconds;
  }
  return refused;
}

absl::StatusOr<double> Load(Engine& engine, const std::string& id) {
  const double start = Seconds();
  MNEME_ASSIGN_OR_RETURN(
      const std::shared_ptr<SessionHold> hold,
      Wait<std::shared_ptr<SessionHold>>(
          [&](const auto& done) { engine.Load(id, "", done); }));
  const double seconds = Seconds() - start;
  if (hold->report().tier != StateTier::kCold) {
    return absl::InternalError("the session was not cold");
  }
  return seconds;
}

absl::StatusOr<double> Fork(Engine& engine, const std::string& source,
                            const std::string& id) {
  const double start = Seconds();
  MNEME_RETURN_IF_ERROR(Wait<SessionInfo>([&](const auto& done) {
                          engine.ForkSession({.source = source, .id = id},
                                             done);
                        }).status());
  const double seconds = Seconds() - start;
  MNEME_RETURN_IF_ERROR(engine.DeleteSession(id, ""));
  return seconds;
}

absl::StatusOr<double> TimeExport(Engine& engine, const std::string& id) {
  const double start = Seconds();
  MNEME_ASSIGN_OR_RETURN(
      const std::unique_ptr<SessionExport> file,
      Wait<std::unique_ptr<SessionExport>>(
          [&](const auto& done) { engine.ExportSession(id, "", done); }));
  constexpr int64_t kPieceBytes = 256 << 10;
  std::string piece;
  for (int64_t at = 0; at < file->total_bytes();
       at += static_cast<int64_t>(piece.size())) {
    piece = std::string(file->Read(at, kPieceBytes));
    if (piece.empty()) return absl::InternalError("an export ended early");
  }
  return Seconds() - start;
}

}  // namespace

absl::StatusOr<Residence> SaveAndLoad(const StoreBench& bench, int rounds) {
  constexpr int kStarts = 3;
  constexpr char kId[] = "s";
  const Folder folder(bench.folder);
  MNEME_ASSIGN_OR_RETURN(PlainFiles plain,
                         PlainFiles::Make(bench.folder + "/plain"));
  MNEME_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, Open(bench));
  MNEME_RETURN_IF_ERROR(
      engine->CreateSession({.id = kId, .model = kModel}).status());
  const std::string text(64, 'x');
  Residence found;
  std::vector<double> saves, writes, buffered, reads;
  for (int round = 0; round <= rounds; ++round) {
    MNEME_RETURN_IF_ERROR(AppendAll(*engine, kId, text));
    MNEME_ASSIGN_OR_RETURN(const double save, Evict(*engine));
    MNEME_ASSIGN_OR_RETURN(const std::vector<SnapshotInfo> snapshots,
                           engine->ListSnapshots(kId));
    if (snapshots.empty()) return absl::InternalError("nothing was saved");
    found.saved_bytes = snapshots.back().stored_bytes;
    MNEME_ASSIGN_OR_RETURN(const double write,
                           plain.WriteSynced(found.saved_bytes));
    MNEME_ASSIGN_OR_RETURN(const double load, Load(*engine, kId));
    MNEME_ASSIGN_OR_RETURN(const double read, plain.Read());
    if (round == 0) continue;
    saves.push_back(save);
    writes.push_back(write);
    buffered.push_back(load);
    reads.push_back(read);
  }
  found.state_bytes = engine->GetSession(kId)->state_bytes;

  std::vector<double> changed, unchanged, appends, exports;
  for (int round = 0; round < rounds; ++round) {
    MNEME_RETURN_IF_ERROR(AppendAll(*engine, kId, text));
    MNEME_ASSIGN_OR_RETURN(const double first, Fork(*engine, kId, "f"));
    MNEME_ASSIGN_OR_RETURN(const double second, Fork(*engine, kId, "f"));
    MNEME_ASSIGN_OR_RETURN(const double append, plain.AppendSynced(1000));
    MNEME_ASSIGN_OR_RETURN(const double whole, TimeExport(*engine, kId));
    changed.push_back(first);
    unchanged.push_back(second);
    appends.push_back(append);
    exports.push_back(whole);
  }

  std::vector<double> cached, from_disk, read_from_disk;
  for (int start = 0; start < kStarts; ++start) {
    engine.reset();
    MNEME_ASSIGN_OR_RETURN(engine, Open(bench));
    MNEME_RETURN_IF_ERROR(plain.WriteSynced(found.saved_bytes).status());
    DropCached(bench.folder);
    MNEME_ASSIGN_OR_RETURN(const double cold, Load(*engine, kId));
    MNEME_ASSIGN_OR_RETURN(const double cold_read, plain.Read());
    from_disk.push_back(cold);
    read_from_disk.push_back(cold_read);
    for (int round = 0; round < rounds; ++round) {
      MNEME_RETURN_IF_ERROR(Evict(*engine).status());
      MNEME_ASSIGN_OR_RETURN(const double warm, Load(*engine, kId));
      MNEME_ASSIGN_OR_RETURN(const double read, plain.Read());
      cached.push_back(warm);
      reads.push_back(read);
    }
  }
  found.save = Quantile(saves, 0.5);
  found.disk_write = Quantile(writes, 0.5);
  found.load_buffered = Quantile(buffered, 0.5);
  found.load_cached = Quantile(cached, 0.5);
  found.load_from_disk = Quantile(from_disk, 0.5);
  found.read_cached = Quantile(reads, 0.5);
  found.read_from_disk = Quantile(read_from_disk, 0.5);
  found.fork_changed = Quantile(changed, 0.5);
  found.fork_unchanged = Quantile(unchanged, 0.5);
  found.disk_append = Quantile(appends, 0.5);
  found.export_file = Quantile(exports, 0.5);
  return found;
}

}  // namespace mneme::bench
