// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/session_snapshot.h"

#include <memory>
#include <string>
#include <utility>

#include "engine/base/format_head.h"
#include "engine/ops/cpu/cpu_backend.h"
#include "engine/tools/presets.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/golden_session.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

using absl::StatusCode;

TEST(SessionSnapshotTest, TheBytesOfVersion1StayTheSame) {
  const std::string golden = GoldenFile("snapshot_v1.bin");
  EXPECT_EQ(GoldenSnapshot(), golden);
  const absl::StatusOr<SessionSnapshot> decoded = DecodeSnapshot(golden);
  ASSERT_THAT(decoded, IsOk());
  EXPECT_EQ(decoded->header, GoldenSnapshotHeader());
  EXPECT_EQ(EncodeSnapshot(*decoded), golden);

  const auto model = GoldenModel();
  EXPECT_EQ(History::Decode(decoded->history)->Digest(),
            GoldenHistory().Digest());
  InputQueue input(model.get(), SessionUnit::kText);
  EXPECT_THAT(input.Decode(decoded->input), IsOk());
  EXPECT_EQ(input.bytes(), "user: hi");
  EXPECT_EQ(input.size(), 2);
  EXPECT_THAT(DecodeKeptReply(decoded->reply, model, SessionUnit::kText),
              IsOk());
  const auto state = *SessionState::Create(GoldenLayout());
  EXPECT_THAT(state->Decode(decoded->state), IsOk());
}

TEST(SessionSnapshotTest, PiecesPointIntoTheBytes) {
  const std::string bytes = GoldenSnapshot();
  const absl::StatusOr<SessionSnapshot> decoded = DecodeSnapshot(bytes);
  ASSERT_THAT(decoded, IsOk());
  for (const std::string_view piece :
       {decoded->history, decoded->input, decoded->reply, decoded->state}) {
    EXPECT_GE(piece.data(), bytes.data());
    EXPECT_LE(piece.data() + piece.size(), bytes.data() + bytes.size());
  }
}

TEST(SessionSnapshotTest, EveryFlippedBitIsFound) {
  std::string bytes = GoldenSnapshot();
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      const char was = bytes[at];
      bytes[at] = static_cast<char>(was ^ (1 << bit));
      ASSERT_THAT(DecodeSnapshot(bytes),
                  Fails(StatusCode::kDataLoss, "snapshot: "))
          << "byte " << at << " bit " << bit;
      bytes[at] = was;
    }
  }
}

TEST(SessionSnapshotTest, NoPieceOfOneIsOne) {
  const std::string bytes = GoldenSnapshot();
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_THAT(DecodeSnapshot(bytes.substr(0, size)),
                Fails(StatusCode::kDataLoss, "snapshot: "))
        << size;
  }
  EXPECT_THAT(DecodeSnapshot(bytes + '\0'),
              Fails(StatusCode::kDataLoss, "behind its end"));
}

TEST(SessionSnapshotTest, ANewerVersionIsNotDamaged) {
  std::string bytes;
  WriteFormatHead("MNEMESNP", 2, bytes);
  const auto newer = DecodeSnapshot(bytes + "whatever it holds");
  EXPECT_THAT(newer, Fails(StatusCode::kFailedPrecondition,
                           "found version 2, wanted 1"));
  EXPECT_THAT(newer, HasReason("STATE_INCOMPATIBLE"));
}

// -- A session of a model -----------------------------------------------------

class RestoreSnapshotTest : public testing::Test {
 protected:
  RestoreSnapshotTest() : backend_(MakeCpuBackend(1)), model_(Load(1)) {
    state_ = *model_->model->NewState();
    other_state_ = *model_->model->NewState();
    history_.Add("abc");
    for (int32_t token : {256, 97, 98}) state_->PushToken(token);
    input_.Append("c");
  }

  std::shared_ptr<const ServedModel> Load(uint64_t seed) {
    const TempDir dir;
    EXPECT_THAT(
        WriteRandomModel(*PresetConfig("ttt-linear-tiny"), seed, dir.path()),
        IsOk());
    auto served = std::make_shared<ServedModel>();
    served->name = "tiny";
    served->model = *Model::Load(dir.path(), {}, backend_.get());
    EXPECT_THAT(AddTokenizer(*served), IsOk());
    return served;
  }

  std::string Encode(const KeptReply* reply = nullptr) const {
    return Encode(history_, input_, reply, *state_);
  }
  std::string Encode(const History& history, const InputQueue& input,
                     const KeptReply* reply, const SessionState& state) const {
    std::string pieces[3];
    history.Encode(pieces[0]);
    input.Encode(pieces[1]);
    if (reply != nullptr) EncodeKeptReply(*reply, pieces[2]);
    std::string bytes;
    EncodeSnapshot(
        {.header = {.model_fingerprint = model_->model->fingerprint(),
                    .arithmetic_level = model_->model->arithmetic_level(),
                    .unit = history.unit(),
                    .offset = history.next_offset(),
                    .position = state.position()},
         .history = pieces[0],
         .input = pieces[1],
         .reply = pieces[2]},
        state, bytes);
    return bytes;
  }
  absl::StatusOr<RestoredSession> Restore(const std::string& bytes) {
    const absl::StatusOr<SessionSnapshot> snapshot = DecodeSnapshot(bytes);
    if (!snapshot.ok()) return snapshot.status();
    return RestoreSnapshot(*snapshot, model_, *other_state_);
  }

  std::unique_ptr<Backend> backend_;
  std::shared_ptr<const ServedModel> model_;
  std::unique_ptr<SessionState> state_;
  std::unique_ptr<SessionState> other_state_;
  History history_{SessionUnit::kText};
  InputQueue input_{model_.get(), SessionUnit::kText};
};

TEST_F(RestoreSnapshotTest, ASessionIsWhatItWas) {
  KeptReply kept = GoldenKept(model_);
  const std::string bytes = Encode(&kept);
  const absl::StatusOr<SessionSnapshot> snapshot = DecodeSnapshot(bytes);
  ASSERT_THAT(snapshot, IsOk());
  EXPECT_EQ(snapshot->header.model_fingerprint, model_->model->fingerprint());
  EXPECT_EQ(snapshot->header.offset, 3);
  EXPECT_EQ(snapshot->header.position, 3);
  absl::StatusOr<RestoredSession> restored = Restore(bytes);
  ASSERT_THAT(restored, IsOk());
  EXPECT_EQ(restored->history.Digest(), history_.Digest());
  EXPECT_EQ(restored->input.bytes(), "c");
  ASSERT_TRUE(restored->reply.has_value());
  EXPECT_EQ(restored->reply->request_id, "request-1");
  EXPECT_EQ(other_state_->Digest(""), state_->Digest(""));
  const KeptReply again = *restored->reply;
  EXPECT_EQ(Encode(restored->history, restored->input, &again, *other_state_),
            bytes);
}

TEST_F(RestoreSnapshotTest, OneWithoutAReplyHasNone) {
  const absl::StatusOr<RestoredSession> restored = Restore(Encode());
  ASSERT_THAT(restored, IsOk());
  EXPECT_FALSE(restored->reply.has_value());
}

TEST_F(RestoreSnapshotTest, ItTakesOneAllocation) {
  // As much as was asked for in the beginning: nothing was moved since.
  const std::string bytes = Encode();
  EXPECT_LT(bytes.capacity(), bytes.size() + (20 << 10));
}

TEST_F(RestoreSnapshotTest, AnotherModelsIsRefused) {
  const std::string bytes = Encode();
  const std::shared_ptr<const ServedModel> other = Load(2);
  const auto state = *other->model->NewState();
  const absl::StatusOr<RestoredSession> restored =
      RestoreSnapshot(*DecodeSnapshot(bytes), other, *state);
  EXPECT_THAT(restored, Fails(StatusCode::kFailedPrecondition,
                              model_->model->fingerprint()));
  EXPECT_THAT(restored, HasReason("STATE_INCOMPATIBLE"));
}

TEST_F(RestoreSnapshotTest, SectionsOfDifferentHistoriesAreRefused) {
  const std::string bytes = Encode();
  const std::string as_made = (*model_->model->NewState())->Digest("");
  SessionSnapshot longer = *DecodeSnapshot(bytes);
  longer.header.offset = 4;
  EXPECT_THAT(Restore(EncodeSnapshot(longer)),
              Fails(StatusCode::kDataLoss, "different histories"));
  longer = *DecodeSnapshot(bytes);
  longer.header.position = 2;
  EXPECT_THAT(Restore(EncodeSnapshot(longer)),
              Fails(StatusCode::kDataLoss, "different histories"));
  longer = *DecodeSnapshot(bytes);
  longer.header.unit = SessionUnit::kTokens;
  EXPECT_THAT(Restore(EncodeSnapshot(longer)),
              Fails(StatusCode::kDataLoss, ""));
  EXPECT_EQ(other_state_->Digest(""), as_made);
}

}  // namespace
}  // namespace mneme
