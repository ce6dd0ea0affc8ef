// SPDX-License-Identifier: Apache-2.0
//
// What is drawn, how it is compared, and which call comes next.
#include "tests/property/api_caller.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "engine/base/coding.h"
#include "engine/base/errors.h"
#include "engine/base/status_macros.h"
#include "engine/runtime/history.h"
#include "engine/text/sentencepiece_tokenizer.h"
#include "engine/tools/presets.h"
#include "tests/support/tiny_sentencepiece.h"

namespace mneme {
namespace {

constexpr int kSessions = 7;
constexpr size_t kShownCalls = 400;

}  // namespace

// -- Models ------------------------------------------------------------------

const std::vector<std::string>& ModelFiles::Names() {
  static const auto* const names =
      new std::vector<std::string>{"ttt", "infini", "pieces"};
  return *names;
}

absl::Status ModelFiles::Make() {
  for (size_t i = 0; i < Names().size(); ++i) {
    MNEME_ASSIGN_OR_RETURN(
        ModelConfig config,
        PresetConfig(Names()[i] == "infini" ? "infini-tiny"
                                            : "ttt-linear-tiny"));
    if (Names()[i] == "pieces") {
      config.vocab_size = kTinyVocabSize;
      config.tokenizer = "sentencepiece";
      config.bos_token = 1;
      config.eos_tokens = {2};
      WriteFile(dirs_[i].File("tokenizer.model"), TinySentencePieceModel());
    }
    MNEME_RETURN_IF_ERROR(WriteRandomModel(config, i + 1, dirs_[i].path()));
  }
  MNEME_ASSIGN_OR_RETURN(
      pieces_,
      MakeSentencePieceTokenizer(TinySentencePieceModel(),
                                 {.vocab_size = kTinyVocabSize, .bos = 1}));
  return absl::OkStatus();
}

absl::Status ModelFiles::LoadAll(Engine& engine) const {
  for (size_t i = 0; i < Names().size(); ++i) {
    MNEME_RETURN_IF_ERROR(engine.LoadModel(Names()[i], dirs_[i].path()));
  }
  return absl::OkStatus();
}

std::string ModelFiles::Decode(const std::string& model, int32_t token) const {
  if (model == "pieces") return pieces_->Decode(token);
  return token < 256 ? std::string(1, static_cast<char>(token)) : "";
}

std::map<int32_t, float> ModelFiles::PlainBias(const std::string& model) const {
  std::map<int32_t, float> bias;
  const int32_t tokens =
      model == "pieces" ? static_cast<int32_t>(kTinyVocabSize) : 264;
  for (int32_t token = 0; token < tokens; ++token) {
    const std::string text = Decode(model, token);
    const bool plain =
        !text.empty() && std::all_of(text.begin(), text.end(),
                                     [](char c) { return c >= 32 && c < 127; });
    if (!plain) bias[token] = -100;
  }
  return bias;
}

// -- Comparing ---------------------------------------------------------------

void ApiCaller::Wrong(const std::string& what) {
  if (wrong_.empty()) wrong_ = what;
}

std::string ApiCaller::Report() const {
  std::string report = absl::StrCat("seed ", setup_.seed, ": ", wrong_);
  if (engine_ != nullptr) {
    const EngineStats stats = engine_->stats();
    absl::StrAppend(
        &report, "\nsession memory: ", stats.session_memory_used_bytes, " of ",
        stats.session_memory_limit_bytes, ", index ", stats.index_bytes);
    for (const EngineStats::ModelStats& model : stats.models) {
      absl::StrAppend(&report, "; ", model.model, ": ", model.hot_sessions,
                      " of ", model.sessions, " hot");
    }
  }
  absl::StrAppend(&report, "\nafter these calls, the last at the end");
  const size_t first = calls_.size() - std::min(calls_.size(), kShownCalls);
  for (size_t i = first; i < calls_.size(); ++i) {
    absl::StrAppend(&report, "\n  ", i, ": ", calls_[i]);
  }
  return report;
}

bool ApiCaller::Expect(const absl::Status& status, const Wants& wants) {
  const absl::optional<ErrorReason> found = GetReason(status);
  const std::string reason = found.has_value() ? found->reason : "";
  if (reason == "SESSION_BUSY" &&
      (found->metadata.empty() || found->metadata[0].first != "busy")) {
    Wrong("SESSION_BUSY without what the session is busy with");
  }
  for (const Want& want : wants) {
    if (status.code() != want.code) continue;
    if (want.reason.empty() || want.reason == reason) return status.ok();
  }
  std::string wanted;
  for (const Want& want : wants) {
    absl::StrAppend(&wanted, wanted.empty() ? "" : " or ",
                    absl::StatusCodeToString(want.code), " ", want.reason);
  }
  Wrong(absl::StrCat("found ", std::string(status.ToString()), " (", reason,
                     "), wanted ", wanted));
  return false;
}

void ApiCaller::MayLackMemory(Wants& wants) const {
  if (!setup_.little_memory) return;
  for (const auto& [id, session] : sessions_) {
    if (session->writer.stream == nullptr && !session->pinned) continue;
    wants.push_back({absl::StatusCode::kResourceExhausted, "RAM_BUDGET"});
    return;
  }
}

void ApiCaller::SameLabels(const std::map<std::string, std::string>& found,
                           const std::map<std::string, std::string>& wanted) {
  if (found != wanted) {
    Wrong(absl::StrCat("labels: found ", found.size(), ", wanted ",
                       wanted.size(), " others"));
  }
}

std::string ApiCaller::Reply(const SessionInfo& info) {
  return absl::StrCat(info.id, " ", info.uid, " epoch ", info.epoch, " next ",
                      info.next_offset, " revision ", info.revision, " labels ",
                      info.labels.size());
}

std::string ApiCaller::Reply(const SnapshotInfo& info) {
  return absl::StrCat(info.session, " ", info.name, " at ", info.offset, " ",
                      info.position, " ", info.state_digest, " ",
                      info.history_digest, " ", info.automatic);
}

std::string ApiCaller::Reply(const SegmentCommit& commit) {
  return absl::StrCat(commit.position, " ", commit.segment_tokens);
}

std::string ApiCaller::Reply(const ScoreEvent& event) {
  return absl::StrCat(event.next_offset, " ", event.position, " ",
                      event.totals.tokens_scored);
}

// -- Drawing -----------------------------------------------------------------

ModelSession* ApiCaller::FindSession(const std::string& id) {
  const auto found = sessions_.find(id);
  return found == sessions_.end() ? nullptr : found->second.get();
}

ModelSession* ApiCaller::PickSession() {
  if (sessions_.empty()) return nullptr;
  auto picked = sessions_.begin();
  std::advance(picked, Draw(static_cast<int64_t>(sessions_.size())));
  return picked->second.get();
}

std::string ApiCaller::PickId() {
  ModelSession* const session = PickSession();
  if (session != nullptr && !Chance(10)) return session->id;
  return absl::StrCat("s", Draw(kSessions));
}

std::string ApiCaller::PickBadId() {
  const std::string bad[] = {".x",       "a/b", "a b", std::string(129, 'x'),
                             "\xC3\xA9", "-"};
  return bad[Draw(std::size(bad))];
}

std::map<std::string, std::string> ApiCaller::DrawLabels(bool good) {
  std::map<std::string, std::string> labels;
  for (int64_t i = Draw(4); i > 0; --i) {
    labels[absl::StrCat("k", Draw(5))] = std::string(Draw(30), 'v');
  }
  if (good) return labels;
  switch (Draw(4)) {
    case 0:
      labels["Key"] = "v";
      break;
    case 1:
      labels[std::string(64, 'k')] = "v";
      break;
    case 2:
      labels["k"] = std::string(257, 'v');
      break;
    default:
      for (int i = 0; i < 65; ++i) labels[absl::StrCat("k", i)] = "v";
  }
  return labels;
}

std::string ApiCaller::DrawInput(const ModelSession& session, int64_t most) {
  const int64_t count =
      1 + Draw(Chance(20) ? most : std::min(most, int64_t{20}));
  std::string input;
  if (session.unit == SessionUnit::kTokens) {
    std::vector<int32_t> tokens(count);
    for (int32_t& token : tokens) token = 3 + static_cast<int32_t>(Draw(250));
    return TokenBytes(tokens);
  }
  if (session.model != "pieces") {
    for (int64_t i = 0; i < count; ++i) input += static_cast<char>(Draw(256));
    return input;
  }
  const std::string kChars[] = {"\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9D\x84\x9E"};
  const std::string cut = session.history.CutCharacter();
  for (const std::string& c : kChars) {
    if (!cut.empty() && c.substr(0, cut.size()) == cut) {
      input = c.substr(cut.size());
    }
  }
  while (static_cast<int64_t>(input.size()) < count) {
    if (Chance(15)) {
      input += kChars[Draw(std::size(kChars))];
    } else if (Chance(20)) {
      input += Chance(80) ? " " : "  ";
    } else if (Chance(20)) {
      input += " the";
    } else {
      input += static_cast<char>('a' + Draw(26));
    }
  }
  if (Chance(15)) input.resize(1 + Draw(static_cast<int64_t>(input.size())));
  return input;
}

Payload ApiCaller::ToPayload(SessionUnit unit, const std::string& bytes) const {
  if (unit == SessionUnit::kText) return bytes;
  std::vector<int32_t> tokens(bytes.size() / 4);
  for (size_t i = 0; i < tokens.size(); ++i) {
    tokens[i] = static_cast<int32_t>(DecodeFixed32(&bytes[i * 4]));
  }
  return tokens;
}

// -- Which call --------------------------------------------------------------

ApiCaller::ApiCaller(const ModelFiles* files, const Setup& setup)
    : files_(files), setup_(setup), random_(setup.seed) {
  StartEngine();
}

ApiCaller::~ApiCaller() {
  sessions_.clear();  // their streams
}

bool ApiCaller::Step() {
  using Call = void (ApiCaller::*)();
  struct Weighed {
    int weight;
    Call call;
  };
  static constexpr Weighed kCalls[] = {
      {8, &ApiCaller::Create},        {6, &ApiCaller::Fork},
      {30, &ApiCaller::Append},       {18, &ApiCaller::Generate},
      {8, &ApiCaller::Score},         {5, &ApiCaller::CommitSegment},
      {12, &ApiCaller::Rollback},     {2, &ApiCaller::Reset},
      {7, &ApiCaller::KeepSnapshot},  {3, &ApiCaller::DropSnapshot},
      {4, &ApiCaller::ListSnapshots}, {6, &ApiCaller::Update},
      {4, &ApiCaller::Delete},        {3, &ApiCaller::Export},
      {4, &ApiCaller::Import},        {3, &ApiCaller::List},
      {2, &ApiCaller::Verify},        {2, &ApiCaller::Evict},
      {1, &ApiCaller::Restart},
  };
  int total = 0;
  for (const Weighed& weighed : kCalls) total += weighed.weight;
  int64_t drawn = Draw(total);
  for (const Weighed& weighed : kCalls) {
    drawn -= weighed.weight;
    if (drawn >= 0) continue;
    (this->*weighed.call)();
    break;
  }
  if (wrong_.empty() && Chance(20)) {
    if (ModelSession* const session = PickSession(); session != nullptr) {
      Log("describe ", session->id);
      Check(*session);
    }
  }
  return wrong_.empty();
}

bool ApiCaller::Finish() {
  List();
  for (const auto& [id, session] : sessions_) {
    if (!wrong_.empty()) break;
    session->writer.Close();
    Check(*session);
    Repeat(*session);
  }
  return wrong_.empty();
}

}  // namespace mneme
