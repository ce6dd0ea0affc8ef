// SPDX-License-Identifier: Apache-2.0
//
// Sessions made, forked, changed, deleted and described, and the engine that
// has them started anew.
#include <algorithm>
#include <utility>

#include "engine/base/wait_for.h"
#include "tests/property/api_caller.h"

namespace mneme {
namespace {

using absl::StatusCode;
using Infos = absl::StatusOr<SessionInfo>;

constexpr size_t kMostSessions = 7;
constexpr int64_t kMostPinned = 2;

}  // namespace

// -- The engine --------------------------------------------------------------

void ApiCaller::StartEngine() {
  EngineOptions options;
  options.threads = 1;
  // An export or an import takes 4 MiB for itself, a stream more than one; both
  // also for a moment after their end was told.
  options.session_memory_bytes = setup_.little_memory ? 11 << 20 : 64 << 20;
  options.snapshot_interval_tokens = 200;
  options.snapshots_kept = setup_.snapshots_kept;
  if (setup_.on_disk) options.data_directory = directory_.File("data");
  absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(options);
  if (!engine.ok()) {
    Wrong(std::string(engine.status().ToString()));
    return;
  }
  engine_ = *std::move(engine);
  const absl::Status loaded = files_->LoadAll(*engine_);
  if (!loaded.ok()) Wrong(std::string(loaded.ToString()));
}

void ApiCaller::Restart() {
  if (!setup_.on_disk) return;
  const bool drains = Chance(50);
  Log("restart", drains ? ", drained" : "");
  for (const auto& [id, session] : sessions_) session->writer.Close();
  if (drains) engine_->Drain(absl::Now() + absl::Minutes(1));
  engine_.reset();
  StartEngine();
  if (!wrong_.empty()) return;
  auto wanted = remembered_;
  for (const AnsweredRequest& found : engine_->TakeAnsweredRequests()) {
    const auto it = wanted.find(found.id);
    if (it == wanted.end()) {
      Wrong("request " + found.id + " is remembered, or twice");
      return;
    }
    Same("digest of request", found.digest, it->second.first);
    Same(("reply to request " + found.id).c_str(), found.reply,
         it->second.second);
    wanted.erase(it);
  }
  if (!wanted.empty()) {
    Wrong("request " + wanted.begin()->first + " is not remembered");
  }
  List();
  for (const auto& [id, session] : sessions_) Check(*session);
}

void ApiCaller::Evict() {
  Log("put sessions out of memory");
  const int64_t limit = engine_->stats().session_memory_limit_bytes;
  Expect(
      engine_->SetSessionMemory(1),
      {{StatusCode::kFailedPrecondition, "BUDGET_IN_USE"}, {StatusCode::kOk}});
  Expect(engine_->SetSessionMemory(0), {{StatusCode::kInvalidArgument}});
  Expect(engine_->SetSessionMemory(limit), {{StatusCode::kOk}});
}

// -- What a session is -------------------------------------------------------

void ApiCaller::CheckInfo(const SessionInfo& info, ModelSession& session) {
  Same("id", info.id, session.id);
  Same("uid", info.uid, session.uid);
  Same("model", info.model, session.model);
  Same("unit", static_cast<int>(info.unit), static_cast<int>(session.unit));
  Same("epoch", info.epoch, session.epoch);
  Same("revision", info.revision, session.revision);
  Same("next_offset", info.next_offset, session.next_offset());
  Same("pinned", info.pinned, session.pinned);
  Same("snapshot_interval_tokens", info.snapshot_interval_tokens,
       session.snapshot_interval_tokens);
  SameLabels(info.labels, session.labels);
  if ((info.expire_time == absl::InfiniteFuture()) !=
      (session.ttl == absl::ZeroDuration())) {
    Wrong("expire_time: found " + absl::FormatTime(info.expire_time));
  }
  Same("condition", static_cast<int>(info.condition),
       static_cast<int>(SessionCondition::kActive));
  Same("durability", static_cast<int>(info.durability),
       static_cast<int>(setup_.on_disk ? Durability::kSynced
                                       : Durability::kNone));
  const auto activity = session.writer.stream == nullptr
                            ? SessionActivity::kIdle
                            : SessionActivity::kAppending;
  Same("activity", static_cast<int>(info.activity), static_cast<int>(activity));
}

void ApiCaller::Check(ModelSession& session) {
  if (!wrong_.empty()) return;
  const Infos info = Describe(*engine_, session.id);
  if (!Expect(info, {{StatusCode::kOk}})) return;
  CheckInfo(*info, session);
  Same("absorbed_offset", info->absorbed_offset, info->next_offset);
  Same("durable_offset", info->durable_offset,
       setup_.on_disk ? info->next_offset : 0);
  Same("history_digest", info->history_digest,
       DigestOf(session.history.bytes()));
  if (session.unit == SessionUnit::kTokens) {
    Same("position", info->position, session.next_offset());
    Same("pending_bytes", info->pending_bytes, 0);
  } else if (session.model != "pieces") {
    // A byte is a token, and one comes before them all.
    Same("position", info->position, session.next_offset() + 1);
    Same("pending_bytes", info->pending_bytes, 0);
  }
  if (session.state_digest.empty()) session.state_digest = info->state_digest;
  Same("state_digest", info->state_digest, session.state_digest);
  if (!wrong_.empty()) wrong_ = "session " + session.id + ": " + wrong_;
}

ModelSession& ApiCaller::Made(const SessionInfo& info, const std::string& model,
                              SessionUnit unit, const ModelSnapshot* base) {
  auto made = std::make_unique<ModelSession>();
  made->id = info.id;
  made->uid = info.uid;
  made->model = model;
  made->unit = unit;
  made->revision = info.revision;
  if (base != nullptr) {
    made->history = base->history;
    made->history.base_ops = base->history.ops.size();
    // Those answers are another session's.
    for (ModelOp& op : made->history.ops) op.options.request_id.clear();
    made->state_digest = base->state_digest;
    made->floor = base->history.size();
  }
  for (const auto& [id, other] : sessions_) {
    if (other->uid == info.uid) Wrong("uid " + info.uid + " is of two");
  }
  return *(sessions_[info.id] = std::move(made));
}

// -- Made --------------------------------------------------------------------

void ApiCaller::Create() {
  CreateSessionOptions options;
  options.model = ModelFiles::Names()[Draw(3)];
  options.id = absl::StrCat("s", Draw(kMostSessions));
  const auto unit = Chance(60) ? SessionUnit::kText : SessionUnit::kTokens;
  options.unit = unit;
  options.labels = DrawLabels(/*good=*/true);
  if (Chance(30)) options.ttl = absl::Hours(1 + Draw(9));
  if (Chance(20)) options.snapshot_interval_tokens = 50 + Draw(100);
  options.request = Tag<SessionInfo>();
  Wants wants = {{StatusCode::kOk}};
  ModelSnapshot base;
  bool has_base = false;
  SessionUnit made_unit = unit;
  const int64_t fault = Draw(24);
  if (fault == 0) {
    options.id = PickBadId();
    wants = {{StatusCode::kInvalidArgument, "BAD_FIELD"}};
  } else if (fault == 1) {
    options.model = "none";
    wants = {{StatusCode::kNotFound}};
  } else if (fault == 2) {
    options.labels = DrawLabels(/*good=*/false);
    wants = {{StatusCode::kInvalidArgument, "BAD_FIELD"}};
  } else if (fault == 3) {
    options.ttl = Chance(50) ? absl::Milliseconds(500) : absl::Seconds(-1);
    wants = {{StatusCode::kInvalidArgument, "BAD_FIELD"}};
  } else if (fault == 4) {
    options.snapshot_interval_tokens = -1;
    wants = {{StatusCode::kInvalidArgument, "BAD_FIELD"}};
  } else if (fault == 5) {
    options.source_session = "none";
    options.source_snapshot = "n";
    wants = {{StatusCode::kNotFound}};
  } else if (ModelSession* const source = PickSession();
             fault < 12 && source != nullptr) {
    options.source_session = source->id;
    options.source_snapshot = PickSnapshot(*source);
    const auto found = FindSnapshot(*source, options.source_snapshot);
    if (fault < 10) {
      options.model = source->model;
      options.unit.reset();
    }
    if (!found.has_value()) {
      wants = {{StatusCode::kNotFound, "SNAPSHOT_NOT_FOUND"}};
    } else if (options.model != source->model) {
      wants = {{StatusCode::kFailedPrecondition, "STATE_INCOMPATIBLE"}};
    } else if (options.unit.has_value() && unit != source->unit) {
      wants = {{StatusCode::kInvalidArgument, "BAD_FIELD"}};
    } else {
      base = *found;
      has_base = true;
      made_unit = source->unit;
    }
  }
  const bool wanted = wants[0].code == StatusCode::kOk;
  if (FindSession(options.id) != nullptr) {
    if (wanted) wants.clear();
    wants.push_back({StatusCode::kAlreadyExists});
  } else if (wanted && sessions_.size() >= kMostSessions) {
    return;
  }
  if (wanted && Chance(3)) options.id.clear();
  if (options.id.empty()) wants = {{StatusCode::kOk}};
  Log("create ", options.id.substr(0, 20), " of ", options.model, " unit ",
      static_cast<int>(unit), " from ", options.source_session, "/",
      options.source_snapshot);
  const Infos info = engine_->CreateSession(options);
  if (!Expect(info, wants)) return;
  Answered(options.request, *info);
  Same("epoch", info->epoch, 1);
  ModelSession& made =
      Made(*info, options.model, made_unit, has_base ? &base : nullptr);
  made.labels = options.labels;
  made.ttl = options.ttl;
  made.snapshot_interval_tokens = options.snapshot_interval_tokens;
  CheckInfo(*info, made);
  Check(made);
}

int64_t ApiCaller::Pinned() const {
  return std::count_if(sessions_.begin(), sessions_.end(),
                       [](const auto& named) { return named.second->pinned; });
}

void ApiCaller::Fork() {
  ForkOptions options;
  options.source = PickId();
  options.id = absl::StrCat("s", Draw(kMostSessions));
  options.labels = DrawLabels(/*good=*/true);
  if (Chance(30)) options.ttl = absl::Hours(1 + Draw(9));
  options.request = Tag<SessionInfo>();
  ModelSession* const source = FindSession(options.source);
  ModelSnapshot base;
  Wants wants = {{StatusCode::kOk}};
  const int64_t fault = Draw(12);
  if (source == nullptr) {
    wants = {{StatusCode::kNotFound}};
  } else {
    base = {.history = source->history, .state_digest = source->state_digest};
    if (fault == 0) {
      options.id = PickBadId();
      wants = {{StatusCode::kInvalidArgument, "BAD_FIELD"}};
    } else if (fault == 1) {
      options.labels = DrawLabels(/*good=*/false);
      wants = {{StatusCode::kInvalidArgument, "BAD_FIELD"}};
    } else if (fault < 6) {
      options.snapshot = PickSnapshot(*source);
      const auto found = FindSnapshot(*source, options.snapshot);
      if (!found.has_value()) {
        wants = {{StatusCode::kNotFound, "SNAPSHOT_NOT_FOUND"}};
      } else {
        base = *found;
      }
    }
  }
  const bool wanted = wants[0].code == StatusCode::kOk;
  if (FindSession(options.id) != nullptr) {
    if (wanted) wants.clear();
    wants.push_back({StatusCode::kAlreadyExists});
  } else if (wanted && source->pinned && Pinned() >= kMostPinned) {
    return;
  }
  Log("fork ", options.source, "/", options.snapshot, " to ",
      options.id.substr(0, 20));
  const Infos info = mneme::Fork(*engine_, options);
  if (Expect(info, wants)) {
    Answered(options.request, *info);
    ModelSession& made = Made(*info, source->model, source->unit, &base);
    made.labels = options.labels;
    made.ttl = options.ttl;
    // What the options do not say is the source's.
    made.snapshot_interval_tokens = source->snapshot_interval_tokens;
    made.pinned = source->pinned;
    CheckInfo(*info, made);
    Check(made);
  }
  if (source != nullptr) Check(*source);
}

// -- Changed and gone --------------------------------------------------------

void ApiCaller::Update() {
  UpdateSessionOptions options;
  options.session = PickId();
  ModelSession* const session = FindSession(options.session);
  const int64_t fault = Draw(10);
  Wants wants = {{StatusCode::kOk}};
  if (Chance(50)) options.labels = DrawLabels(/*good=*/true);
  if (Chance(30)) {
    options.ttl = Chance(50) ? absl::ZeroDuration() : absl::Hours(1 + Draw(9));
  }
  if (Chance(20)) options.snapshot_interval_tokens = Draw(2) * 150;
  if (Chance(30)) {
    const auto pinned =
        std::count_if(sessions_.begin(), sessions_.end(),
                      [](const auto& named) { return named.second->pinned; });
    options.pinned = pinned < kMostPinned && Chance(50);
  }
  if (session == nullptr) {
    wants = {{StatusCode::kNotFound}};
  } else if (fault == 0) {
    options.labels = DrawLabels(/*good=*/false);
    wants = {{StatusCode::kInvalidArgument, "BAD_FIELD"}};
  } else if (fault == 1) {
    options.ttl = absl::Milliseconds(1);
    wants = {{StatusCode::kInvalidArgument, "BAD_FIELD"}};
  } else if (fault == 2) {
    options.snapshot_interval_tokens = -5;
    wants = {{StatusCode::kInvalidArgument, "BAD_FIELD"}};
  } else if (fault == 3) {
    options.revision = session->revision + (Chance(50) ? 1 : -1);
    wants = {{StatusCode::kAborted, "ETAG_MISMATCH"}};
  } else if (fault < 6) {
    options.revision = session->revision;
  }
  options.request = Tag<SessionInfo>();
  Log("update ", options.session);
  const Infos info = engine_->UpdateSession(options);
  if (Expect(info, wants)) {
    Answered(options.request, *info);
    if (options.labels.has_value()) session->labels = *options.labels;
    if (options.ttl.has_value()) session->ttl = *options.ttl;
    if (options.snapshot_interval_tokens.has_value()) {
      session->snapshot_interval_tokens = *options.snapshot_interval_tokens;
    }
    if (options.pinned.has_value()) session->pinned = *options.pinned;
    if (info->revision <= session->revision) Wrong("the revision stayed");
    session->revision = info->revision;
    CheckInfo(*info, *session);
  }
  if (session != nullptr) Check(*session);
}

void ApiCaller::Delete() {
  DeleteOptions options;
  options.session = PickId();
  ModelSession* const session = FindSession(options.session);
  Wants wants = {{StatusCode::kOk}};
  const int64_t fault = Draw(6);
  if (session == nullptr) {
    wants = {{StatusCode::kNotFound}};
  } else if (fault == 0) {
    options.uid = "other";
    wants = {{StatusCode::kAborted, "EPOCH_FENCED"}};
  } else if (fault == 1) {
    options.revision = session->revision + 1;
    wants = {{StatusCode::kAborted, "ETAG_MISMATCH"}};
  } else if (fault == 2) {
    options.uid = session->uid;
    options.revision = session->revision;
  }
  options.request = Tag<SessionInfo>();
  Log("delete ", options.session);
  const Infos info = WaitFor<Infos>(
      [&](const auto& done) { engine_->DeleteSession(options, done); });
  if (!Expect(info, wants)) {
    if (session != nullptr) Check(*session);
    return;
  }
  Answered(options.request, *info);
  CheckInfo(*info, *session);
  if (session->writer.stream != nullptr) {
    Expect(session->writer.stream->Write({.offset = 0, .payload = "x"}),
           {{StatusCode::kNotFound}});
    Expect(session->writer.stream->status(), {{StatusCode::kNotFound}});
  }
  sessions_.erase(options.session);
  Expect(engine_->GetSession(options.session), {{StatusCode::kNotFound}});
  Expect(Describe(*engine_, options.session), {{StatusCode::kNotFound}});
}

void ApiCaller::List() {
  if (!wrong_.empty()) return;
  SessionFilter filter;
  if (Chance(30)) filter.model = ModelFiles::Names()[Draw(3)];
  if (Chance(30)) filter.labels["k1"] = std::string(Draw(30), 'v');
  const std::string after = Chance(50) ? "" : absl::StrCat("s", Draw(7));
  const int64_t limit = Chance(50) ? 1000 : 1 + Draw(4);
  Log("list ", limit, " after ", after);
  std::vector<ModelSession*> wanted;
  for (const auto& [id, session] : sessions_) {
    if (id <= after || static_cast<int64_t>(wanted.size()) == limit) continue;
    if (filter.model.value_or(session->model) != session->model) continue;
    if (std::all_of(filter.labels.begin(), filter.labels.end(),
                    [&, &s = *session](const auto& label) {
                      const auto found = s.labels.find(label.first);
                      return found != s.labels.end() &&
                             found->second == label.second;
                    })) {
      wanted.push_back(session.get());
    }
  }
  const std::vector<SessionInfo> found =
      engine_->ListSessions(after, limit, filter);
  Same("number of sessions listed", found.size(), wanted.size());
  for (size_t i = 0; i < found.size() && wrong_.empty(); ++i) {
    CheckInfo(found[i], *wanted[i]);
  }
}

// -- Done again --------------------------------------------------------------

void ApiCaller::Repeat(const ModelSession& session) {
  if (!wrong_.empty() || !session.history.Repeatable()) return;
  Log("all of ", session.id, " again");
  const std::string id = "again";
  CreateSessionOptions options;
  options.id = id;
  options.model = session.model;
  options.unit = session.unit;
  Expect(engine_->CreateSession(options), {{StatusCode::kOk}});
  std::string input;
  const auto append = [&] {
    if (input.empty()) return;
    const Payload payload = ToPayload(session.unit, std::exchange(input, ""));
    Expect(AppendAll(*engine_, id, payload, {}), {{StatusCode::kOk}});
  };
  for (const ModelOp& op : session.history.ops) {
    if (op.kind == ModelOp::Kind::kInput) {
      input += op.input;
      continue;
    }
    append();
    if (op.kind == ModelOp::Kind::kGenerate) {
      GenerateOptions again = op.options;
      again.session = id;
      again.uid.clear();
      again.request_id.clear();
      const auto said = GenerateAll(*engine_, again);
      if (!Expect(said, {{StatusCode::kOk}})) return;
      if (said->tokens != op.tokens) Wrong("another answer");
    } else if (op.kind == ModelOp::Kind::kScore) {
      ScoreOptions again;
      again.session = id;
      again.commit = true;
      Expect(ScoreAll(*engine_, again, ToPayload(session.unit, op.text())),
             {{StatusCode::kOk}});
    } else {
      Expect(mneme::CommitSegment(*engine_, id), {{StatusCode::kOk}});
    }
  }
  append();
  const Infos info = Describe(*engine_, id);
  if (!Expect(info, {{StatusCode::kOk}})) return;
  Same("state_digest of all again", info->state_digest, session.state_digest);
  Same("history_digest of all again", info->history_digest,
       DigestOf(session.history.bytes()));
  Expect(engine_->DeleteSession(id, ""), {{StatusCode::kOk}});
}

}  // namespace mneme
