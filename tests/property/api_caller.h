// SPDX-License-Identifier: Apache-2.0
//
// Calls of the engine, right ones and wrong ones, drawn by a seed; each is made
// and its outcome compared with what a model says. Only one thing at a time is
// wrong with a call, so that it is known which error comes.
#ifndef MNEME_TESTS_PROPERTY_API_CALLER_H_
#define MNEME_TESTS_PROPERTY_API_CALLER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "engine/engine.h"
#include "engine/text/tokenizer.h"
#include "tests/property/api_model.h"
#include "tests/support/temp_dir.h"

namespace mneme {

// Models of random weights, by their names: "ttt" and "infini" of bytes, which
// take any text, and "pieces" of a tokenizer that wants UTF-8.
class ModelFiles {
 public:
  absl::Status Make();
  static const std::vector<std::string>& Names();
  absl::Status LoadAll(Engine& engine) const;
  // The bytes of a token in a text session of `model`.
  std::string Decode(const std::string& model, int32_t token) const;
  // What keeps a generation to printable characters of one byte, and from
  // ending.
  std::map<int32_t, float> PlainBias(const std::string& model) const;

 private:
  TempDir dirs_[3];
  std::unique_ptr<const Tokenizer> pieces_;
};

class ApiCaller {
 public:
  struct Setup {
    uint32_t seed = 0;
    bool on_disk = false;
    // How many sessions have room in memory, about.
    bool little_memory = false;
    int64_t snapshots_kept = 1000;
  };
  // `files` outlives it.
  ApiCaller(const ModelFiles* files, const Setup& setup);
  ~ApiCaller();

  // The next call. False once something was not as the model says.
  bool Step();
  // The last look at all there is.
  bool Finish();

  // What was wrong, and the calls that led there.
  std::string Report() const;

 private:
  struct Want {
    absl::StatusCode code = absl::StatusCode::kOk;
    std::string reason;  // empty: any
  };
  using Wants = std::vector<Want>;
  struct File {
    std::string bytes;
    std::string model;
    SessionUnit unit = SessionUnit::kText;
    ModelHistory history;
    std::string state_digest;
    std::map<std::string, std::string> labels;
    absl::Duration ttl;
  };
  enum class SegmentKind;
  struct DrawnSegment;

  // -- Drawing and comparing (api_caller.cc) ---------------------------------
  int64_t Draw(int64_t below) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(below));
  }
  bool Chance(int percent) { return Draw(100) < percent; }
  template <typename... Parts>
  void Log(const Parts&... parts) {
    calls_.push_back(absl::StrCat(parts...));
  }
  void Wrong(const std::string& what);
  // Whether the call succeeded, as it was wanted to.
  bool Expect(const absl::Status& status, const Wants& wants);
  template <typename T>
  bool Expect(const absl::StatusOr<T>& outcome, const Wants& wants) {
    return Expect(outcome.status(), wants);
  }
  template <typename T, typename U>
  void Same(const char* what, const T& found, const U& wanted) {
    if (found == wanted) return;
    Wrong(absl::StrCat(what, ": found ", found, ", wanted ", wanted));
  }
  void SameLabels(const std::map<std::string, std::string>& found,
                  const std::map<std::string, std::string>& wanted);
  // Little memory may be in use: by writers, by pinned sessions, by those whose
  // snapshots are being written.
  void MayLackMemory(Wants& wants) const;
  ModelSession* PickSession();
  // Mostly of one that is there.
  std::string PickId();
  ModelSession* FindSession(const std::string& id);
  std::string PickBadId();
  std::map<std::string, std::string> DrawLabels(bool good);
  // Text or tokens that can follow what the session has, in the form in which
  // a history counts them.
  std::string DrawInput(const ModelSession& session, int64_t most);
  Payload ToPayload(SessionUnit unit, const std::string& bytes) const;
  // A request's tag, mostly none. What is remembered of it is what its answer
  // says.
  template <typename T>
  RequestTag<T> Tag();
  template <typename T>
  void Answered(const RequestTag<T>& request, const T& outcome) {
    if (request.id.empty()) return;
    remembered_[request.id] = {request.digest, Reply(outcome)};
  }
  static std::string Reply(const SessionInfo& info);
  static std::string Reply(const SnapshotInfo& info);
  static std::string Reply(const SegmentCommit& commit);
  static std::string Reply(const ScoreEvent& event);

  // -- Sessions (api_session_calls.cc) ---------------------------------------
  void StartEngine();
  void Restart();
  void Evict();
  void Create();
  void Fork();
  int64_t Pinned() const;
  void Update();
  void Delete();
  void List();
  void Check(ModelSession& session);
  void CheckInfo(const SessionInfo& info, ModelSession& session);
  // A session was made with `history`; null if it should be empty.
  ModelSession& Made(const SessionInfo& info, const std::string& model,
                     SessionUnit unit, const ModelSnapshot* base);
  void Repeat(const ModelSession& session);

  // -- Streams (api_stream_calls.cc) -----------------------------------------
  void Append();
  bool OpenWriter(ModelSession& session);
  void WriteSegment(ModelSession& session);
  DrawnSegment DrawSegment(const ModelSession& session);
  void AwaitAbsorbed(ModelSession& session);
  void Generate();
  void Attach(ModelSession& session);
  void CheckAnswer(ModelSession& session, const GenerateOptions& options,
                   const absl::StatusOr<Generated>& said);
  void Score();
  // One whose input is refused; it is waited for.
  void ScoreNothing(const ScoreOptions& options, const Payload& payload,
                    const Wants& wants);
  void CommitSegment();

  // -- Stored things (api_stored_calls.cc) -----------------------------------
  void Rollback();
  void Reset();
  void KeepSnapshot();
  void DropSnapshot();
  void ListSnapshots();
  void Export();
  void Import();
  void Verify();
  // A kept state of the session, mostly; or a name that it has not.
  std::string PickSnapshot(ModelSession& session);
  // What the session would be taken back to; nothing if it has none of that
  // name.
  absl::optional<ModelSnapshot> FindSnapshot(ModelSession& session,
                                             const std::string& name);
  // The oldest offset that automatic snapshots let it go back to, in units.
  int64_t OldestKept(const ModelSession& session);
  void Fenced(ModelSession& session);
  void Moved(ModelSession& session, const SessionInfo& info);

  const ModelFiles* const files_;
  const Setup setup_;
  std::mt19937 random_;
  TempDir directory_;
  std::unique_ptr<Engine> engine_;
  std::map<std::string, std::unique_ptr<ModelSession>> sessions_;
  absl::optional<File> file_;
  std::map<std::string, std::pair<std::string, std::string>> remembered_;
  int64_t numbers_ = 0;  // of names that were given
  std::vector<std::string> calls_;
  std::string wrong_;
};

template <typename T>
RequestTag<T> ApiCaller::Tag() {
  if (!Chance(40)) return {};
  const std::string number = absl::StrCat(++numbers_);
  return {.id = "r" + number,
          .digest = "d" + number,
          .reply = [](const T& outcome) { return Reply(outcome); }};
}

}  // namespace mneme

#endif  // MNEME_TESTS_PROPERTY_API_CALLER_H_
