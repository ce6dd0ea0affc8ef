// SPDX-License-Identifier: Apache-2.0
#include "tests/fault/engine_script.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "tests/support/engine_driver.h"

namespace mneme {
namespace {

absl::Status Allow(absl::StatusCode code, const absl::Status& status) {
  return status.code() == code ? absl::OkStatus() : status;
}

}  // namespace

EngineScript::EngineScript(int seed, int number, const std::string& model)
    : seed_(seed),
      number_(number),
      id_(absl::StrCat("s", number)),
      model_(model) {}

absl::Status EngineScript::Wrong(const std::string& what) const {
  return absl::InternalError(
      absl::StrCat(id_, " step ", next_step_, ": ", what));
}

absl::Status EngineScript::Do(Engine& engine) {
  if (!created_) MNEME_RETURN_IF_ERROR(Create(engine));
  std::mt19937 random(
      static_cast<unsigned>(seed_ * 1000003 + number_ * 1009 + next_step_));
  begins_.resize(static_cast<size_t>(next_step_) + 1, next_offset_);
  const absl::Status status = DoStep(engine, random);
  if (absl::IsDeadlineExceeded(status)) {
    return Wrong(std::string(status.ToString()));
  }
  MNEME_RETURN_IF_ERROR(status);
  ++next_step_;
  return absl::OkStatus();
}

absl::Status EngineScript::DoStep(Engine& engine, std::mt19937& random) {
  switch (random() % 14) {
    case 0:
    case 1:
    case 2:
      return Generate(engine, random);
    case 3:
      return RollBackTo(
          engine,
          std::max(floor_, std::min(begins_[next_step_],
                                    begins_[std::max(next_step_ - 1, 0)])));
    case 4:
      return Fork(engine);
    case 5:
      return Keep(engine);
    case 6:
      return CommitSegment(engine);
    case 7:
      return Drop(engine, random);
    case 8:
      return random() % 8 == 0 ? Reset(engine)
                               : RollBackToSnapshot(engine, random);
    case 9:
      return Label(engine);
    default:
      return Append(engine, random);
  }
}

absl::Status EngineScript::Check(Engine& engine) const {
  if (!created_) return absl::OkStatus();
  const absl::StatusOr<SessionInfo> info = engine.GetSession(id_);
  if (!info.ok()) return Wrong(std::string(info.status().ToString()));
  if (info->condition != SessionCondition::kActive) {
    return Wrong(info->quarantine);
  }
  if (info->durability == Durability::kSynced &&
      info->durable_offset < promised_) {
    return Wrong(absl::StrCat("found ", info->durable_offset,
                              " durable, promised were ", promised_));
  }
  for (const std::string& fork : forks_) {
    if (fork != dropping_ && !engine.GetSession(fork).ok()) {
      return Wrong("lost " + fork);
    }
  }
  std::set<std::string> kept;
  const auto snapshots = engine.ListSnapshots(id_);
  if (!snapshots.ok()) return snapshots.status();
  for (const SnapshotInfo& snapshot : *snapshots) kept.insert(snapshot.name);
  for (const auto& [name, offset] : snapshots_) {
    if (name != dropping_ && kept.count(name) == 0) {
      return Wrong("lost snapshot " + name);
    }
  }
  return absl::OkStatus();
}

absl::Status EngineScript::Create(Engine& engine) {
  MNEME_RETURN_IF_ERROR(Allow(absl::StatusCode::kAlreadyExists,
                              Outcome<SessionInfo>([&](const auto& done) {
                                engine.CreateSession(
                                    {.id = id_, .model = model_}, done);
                              }).status()));
  created_ = true;
  return absl::OkStatus();
}

absl::Status EngineScript::Append(Engine& engine, std::mt19937& random) {
  std::string text(1 + random() % 400, ' ');
  for (char& c : text) c = static_cast<char>('a' + random() % 26);
  const int64_t begin = begins_[next_step_];
  const int64_t end = begin + static_cast<int64_t>(text.size());
  ProgressWaiter waiter;
  MNEME_ASSIGN_OR_RETURN(
      const std::unique_ptr<AppendStream> stream,
      engine.OpenAppend({.session = id_, .takeover = true}, &waiter));
  const AppendOpened& opened = stream->opened();
  const bool synced = opened.durability == Durability::kSynced;
  if (opened.next_offset < begin || opened.next_offset > end) {
    return Wrong(absl::StrCat("holds ", opened.next_offset, ", wanted ", begin,
                              " to ", end));
  }
  if (synced && opened.durable_offset < promised_) {
    return Wrong(absl::StrCat("opened with ", opened.durable_offset,
                              " durable, promised were ", promised_));
  }
  for (int64_t at = 0; at < static_cast<int64_t>(text.size());) {
    const int64_t size = 1 + random() % 200;
    const AppendStream::Segment segment{.offset = begin + at,
                                        .payload = text.substr(at, size)};
    while (true) {
      MNEME_ASSIGN_OR_RETURN(const AppendStream::Taken taken,
                             stream->Write(segment));
      if (!taken.verified) return Wrong("a duplicate was not compared");
      if (taken.offer == Offer::kTaken) break;
      if (!waiter.Wait()) return absl::DeadlineExceededError("append");
    }
    at += size;
  }
  while (true) {
    const AppendProgress progress = stream->progress();
    if (synced) promised_ = std::max(promised_, progress.durable_offset);
    if (progress.idle && (!synced || progress.durable_offset >= end)) break;
    MNEME_RETURN_IF_ERROR(stream->status());
    if (!waiter.Wait()) return absl::DeadlineExceededError("append");
  }
  next_offset_ = end;
  return absl::OkStatus();
}

absl::Status EngineScript::Generate(Engine& engine, std::mt19937& random) {
  GenerateOptions options;
  options.session = id_;
  options.prompt = "Q" + std::string(random() % 60, 'q');
  options.max_tokens = 1 + static_cast<int64_t>(random() % 24);
  options.request_id = absl::StrCat(id_, "-", next_step_);
  options.request_digest = "d";
  options.sampling.seed = random();
  options.logprobs = random() % 3 == 0;
  if (random() % 2 == 0) options.on_disconnect = OnDisconnect::kFinish;
  MNEME_ASSIGN_OR_RETURN(const Generated generated,
                         GenerateAll(engine, options));
  next_offset_ = generated.finished.next_offset;
  promised_ = std::max(promised_, generated.finished.durable_offset);
  return absl::OkStatus();
}

absl::Status EngineScript::Moved(const absl::StatusOr<SessionInfo>& info,
                                 int64_t wanted) {
  MNEME_RETURN_IF_ERROR(info.status());
  if (info->next_offset != wanted) {
    return Wrong(
        absl::StrCat("it is at ", info->next_offset, ", wanted ", wanted));
  }
  next_offset_ = wanted;
  if (info->durability == Durability::kSynced) promised_ = wanted;
  return absl::OkStatus();
}

absl::Status EngineScript::RollBackTo(Engine& engine, int64_t offset) {
  promised_ = std::min(promised_, offset);  // whatever comes of it
  return Moved(Outcome<SessionInfo>([&](const auto& done) {
                 engine.RollbackSession(
                     {.session = id_, .offset = offset, .takeover = true},
                     done);
               }),
               offset);
}

absl::Status EngineScript::RollBackToSnapshot(Engine& engine,
                                              std::mt19937& random) {
  if (snapshots_.empty()) return absl::OkStatus();
  auto kept = snapshots_.begin();
  std::advance(kept, random() % snapshots_.size());
  promised_ = std::min(promised_, kept->second);
  MNEME_RETURN_IF_ERROR(Moved(
      Outcome<SessionInfo>([&](const auto& done) {
        engine.RollbackSession(
            {.session = id_, .snapshot = kept->first, .takeover = true}, done);
      }),
      kept->second));
  floor_ = kept->second;
  return absl::OkStatus();
}

absl::Status EngineScript::Reset(Engine& engine) {
  promised_ = floor_ = 0;
  return Moved(Outcome<SessionInfo>([&](const auto& done) {
                 engine.ResetSession({.session = id_, .takeover = true}, done);
               }),
               0);
}

absl::Status EngineScript::Fork(Engine& engine) {
  const std::string fork = absl::StrCat(id_, "-f", next_step_);
  MNEME_RETURN_IF_ERROR(Allow(absl::StatusCode::kAlreadyExists,
                              Outcome<SessionInfo>([&](const auto& done) {
                                engine.ForkSession({.source = id_, .id = fork},
                                                   done);
                              }).status()));
  forks_.push_back(fork);
  return absl::OkStatus();
}

absl::Status EngineScript::Keep(Engine& engine) {
  const std::string name = absl::StrCat("k", next_step_);
  MNEME_RETURN_IF_ERROR(Allow(absl::StatusCode::kAlreadyExists,
                              Outcome<SnapshotInfo>([&](const auto& done) {
                                engine.CreateSnapshot(
                                    {.session = id_, .name = name}, done);
                              }).status()));
  snapshots_[name] = next_offset_;
  return absl::OkStatus();
}

absl::Status EngineScript::Drop(Engine& engine, std::mt19937& random) {
  absl::Status status;
  if (forks_.size() > 1 && random() % 2 == 0) {
    dropping_ = forks_.front();
    status = Outcome<SessionInfo>([&](const auto& done) {
               engine.DeleteSession({.session = dropping_}, done);
             }).status();
    status = Allow(absl::StatusCode::kNotFound, status);
    if (status.ok()) forks_.erase(forks_.begin());
  } else if (snapshots_.size() > 1) {
    dropping_ = snapshots_.begin()->first;
    status = Outcome<SnapshotInfo>([&](const auto& done) {
               engine.DeleteSnapshot({.session = id_, .name = dropping_}, done);
             }).status();
    status = Allow(absl::StatusCode::kNotFound, status);
    if (status.ok()) snapshots_.erase(dropping_);
  }
  return status;
}

absl::Status EngineScript::Label(Engine& engine) {
  return Outcome<SessionInfo>([&](const auto& done) {
           engine.UpdateSession({.session = id_,
                                 .labels =
                                     std::map<std::string, std::string>{
                                         {"step", std::to_string(next_step_)}}},
                                done);
         })
      .status();
}

absl::Status EngineScript::CommitSegment(Engine& engine) {
  return Allow(absl::StatusCode::kUnimplemented,
               Outcome<SegmentCommit>([&](const auto& done) {
                 engine.CommitSegment({.session = id_}, done);
               }).status());
}

absl::StatusOr<std::map<std::string, std::string>> Findings(Engine& engine) {
  std::map<std::string, std::string> findings;
  for (const SessionInfo& listed : engine.ListSessions("", 1 << 20, {})) {
    MNEME_ASSIGN_OR_RETURN(const SessionInfo info, Describe(engine, listed.id));
    std::string found = absl::StrCat(
        info.state_digest, " ", info.history_digest, " ", info.next_offset);
    for (const auto& [key, value] : info.labels) {
      absl::StrAppend(&found, " ", key, "=", value);
    }
    MNEME_ASSIGN_OR_RETURN(const std::vector<SnapshotInfo> snapshots,
                           engine.ListSnapshots(info.id));
    for (const SnapshotInfo& kept : snapshots) {
      if (kept.automatic) continue;
      absl::StrAppend(&found, " ", kept.name, "=", kept.state_digest, "@",
                      kept.offset);
    }
    findings[info.id] = found;
  }
  return findings;
}

}  // namespace mneme
