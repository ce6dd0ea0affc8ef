// SPDX-License-Identifier: Apache-2.0
//
// Sessions as stored things: forked, taken back, kept, carried elsewhere,
// watched; and requests that come again.
#include <thread>

#include "tests/server/server_fixture.h"

namespace mneme::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class StoredSessionsTest : public ServerFixture {
 protected:
  void SetUp() override {
    ServerFixture::SetUp();
    SetOffset(100);
  }
  void SetOffset(int64_t offset) {
    engine_.ChangeSession("alice", [offset](SessionInfo& session) {
      session.next_offset = offset;
    });
  }
  grpc::Status Fork(const v1::ForkSessionRequest& request) {
    Call call;
    return sessions_->ForkSession(&call, request, &session_);
  }
  grpc::Status Rollback(const v1::RollbackSessionRequest& request) {
    Call call;
    return sessions_->RollbackSession(&call, request, &session_);
  }
  grpc::Status Keep(const std::string& id, const std::string& request_id = "") {
    Call call;
    v1::CreateSnapshotRequest request;
    request.set_parent("sessions/alice");
    request.set_snapshot_id(id);
    request.set_request_id(request_id);
    return sessions_->CreateSnapshot(&call, request, &snapshot_);
  }
  grpc::Status GetKept(const std::string& name) {
    Call call;
    v1::GetSnapshotRequest request;
    request.set_name(name);
    return sessions_->GetSnapshot(&call, request, &snapshot_);
  }
  grpc::Status Drop(const std::string& name,
                    const std::string& request_id = "") {
    Call call;
    v1::DeleteSnapshotRequest request;
    request.set_name(name);
    request.set_request_id(request_id);
    google::protobuf::Empty reply;
    return sessions_->DeleteSnapshot(&call, request, &reply);
  }
  std::vector<std::string> List(v1::ListSnapshotsRequest request) {
    Call call;
    page_.Clear();
    request.set_parent("sessions/alice");
    EXPECT_TRUE(sessions_->ListSnapshots(&call, request, &page_).ok());
    std::vector<std::string> names;
    for (const v1::Snapshot& snapshot : page_.snapshots()) {
      names.push_back(snapshot.name().substr(strlen("sessions/alice/")));
    }
    return names;
  }

  v1::Session session_;
  v1::Snapshot snapshot_;
  v1::ListSnapshotsResponse page_;
};

TEST_F(StoredSessionsTest, AForkHasTheHistoryOfItsSource) {
  v1::ForkSessionRequest request;
  request.set_source("sessions/alice");
  request.set_session_id("bob");
  ASSERT_TRUE(Fork(request).ok());
  EXPECT_EQ(session_.name(), "sessions/bob");
  EXPECT_EQ(session_.next_offset(), 100);
  const grpc::Status again = Fork(request);
  EXPECT_EQ(again.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(ReasonOf(again), "SESSION_EXISTS");
  request.set_source("sessions/nobody");
  EXPECT_EQ(ReasonOf(Fork(request)), "SESSION_NOT_FOUND");
}

TEST_F(StoredSessionsTest, AForkOrANewSessionMayBeginAtASnapshot) {
  ASSERT_TRUE(Keep("s").ok());
  SetOffset(200);
  v1::ForkSessionRequest fork;
  fork.set_source("sessions/alice");
  fork.set_snapshot("sessions/alice/snapshots/s");
  ASSERT_TRUE(Fork(fork).ok());
  EXPECT_EQ(session_.next_offset(), 100);

  v1::CreateSessionRequest create;
  create.set_source_snapshot("sessions/alice/snapshots/s");
  Call call;
  ASSERT_TRUE(sessions_->CreateSession(&call, create, &session_).ok());
  EXPECT_EQ(session_.next_offset(), 100);
  EXPECT_EQ(session_.model(), "models/tiny");
  create.set_source_snapshot("sessions/alice/snapshots/none");
  Call refused;
  const grpc::Status status =
      sessions_->CreateSession(&refused, create, &session_);
  EXPECT_EQ(ReasonOf(status), "SNAPSHOT_NOT_FOUND");
  EXPECT_EQ(DetailOf<google::rpc::ResourceInfo>(status).resource_name(),
            "sessions/alice/snapshots/none");
}

TEST_F(StoredSessionsTest, ARollbackGoesToAnOffsetOrASnapshot) {
  ASSERT_TRUE(Keep("s").ok());
  v1::RollbackSessionRequest request;
  request.set_name("sessions/alice");
  request.set_offset(40);
  ASSERT_TRUE(Rollback(request).ok());
  EXPECT_EQ(session_.next_offset(), 40);
  EXPECT_EQ(session_.epoch(), 2);
  request.set_snapshot("sessions/alice/snapshots/s");
  ASSERT_TRUE(Rollback(request).ok());
  EXPECT_EQ(session_.next_offset(), 100);
  request.set_offset(900);
  const grpc::Status status = Rollback(request);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::OUT_OF_RANGE);
  EXPECT_EQ(ReasonOf(status), "OFFSET_NOT_KEPT");
  EXPECT_EQ(FactOf(status, "nearest_offset"), "0");
}

TEST_F(StoredSessionsTest, SnapshotsAreMadeShownAndDeleted) {
  ASSERT_TRUE(Keep("s").ok());
  EXPECT_EQ(snapshot_.name(), "sessions/alice/snapshots/s");
  EXPECT_EQ(snapshot_.offset(), 100);
  const grpc::Status again = Keep("s");
  EXPECT_EQ(again.error_code(), grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(ReasonOf(again), "SNAPSHOT_EXISTS");
  ASSERT_TRUE(GetKept("sessions/alice/snapshots/s").ok());
  EXPECT_EQ(snapshot_.offset(), 100);
  EXPECT_TRUE(Drop("sessions/alice/snapshots/s").ok());
  EXPECT_EQ(ReasonOf(Drop("sessions/alice/snapshots/s")), "SNAPSHOT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(GetKept("sessions/alice/snapshots/s")),
            "SNAPSHOT_NOT_FOUND");
  EXPECT_EQ(ReasonOf(GetKept("sessions/nobody/snapshots/s")),
            "SESSION_NOT_FOUND");
  EXPECT_EQ(GetKept("sessions/alice").error_code(),
            grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(StoredSessionsTest, PagesListEverySnapshotOnce) {
  EXPECT_THAT(List({}), IsEmpty());
  for (const char* id : {"c", "b", "a"}) {
    ASSERT_TRUE(Keep(id).ok());
    if (*id == 'b') SetOffset(300);
  }
  v1::ListSnapshotsRequest request;
  request.set_page_size(1);
  EXPECT_THAT(List(request), ElementsAre("snapshots/c"));
  request.set_page_token(page_.next_page_token());
  request.set_page_size(2);
  EXPECT_THAT(List(request), ElementsAre("snapshots/b", "snapshots/a"));
  EXPECT_TRUE(page_.next_page_token().empty());
}

// -- Carried elsewhere

class ExportTest : public StoredSessionsTest {
 protected:
  grpc::Status Export(const v1::ExportSessionRequest& request) {
    Call call;
    auto reader = sessions_->ExportSession(&call, request);
    v1::ExportSessionResponse response;
    while (reader->Read(&response)) {
      if (chunks_++ == 0) total_ = response.total_bytes();
      EXPECT_LE(response.chunk().size(), 256u << 10);
      file_ += response.chunk();
    }
    return reader->Finish();
  }
  int chunks_ = 0;
  int64_t total_ = 0;
  std::string file_;
};

TEST_F(ExportTest, AFileComesInPieces) {
  std::string file;
  for (int i = 0; i < 700'000; ++i) file.push_back(static_cast<char>(i * i));
  engine_.SetFile(file);
  v1::ExportSessionRequest request;
  request.set_name("sessions/alice");
  ASSERT_TRUE(Export(request).ok());
  EXPECT_EQ(chunks_, 3);
  EXPECT_EQ(total_, 700'000);
  EXPECT_EQ(file_, file);
  EXPECT_TRUE(engine_.AwaitStreams(0));
}

TEST_F(ExportTest, WhatIsNotThereIsNamed) {
  v1::ExportSessionRequest request;
  request.set_name("sessions/nobody");
  EXPECT_EQ(ReasonOf(Export(request)), "SESSION_NOT_FOUND");
  request.set_name("sessions/alice");
  request.set_snapshot("sessions/alice/snapshots/s");
  EXPECT_EQ(ReasonOf(Export(request)), "SNAPSHOT_NOT_FOUND");
  request.set_snapshot("sessions/bob/snapshots/s");
  EXPECT_EQ(FactOf(Export(request), "field"), "snapshot");
}

TEST_F(ExportTest, ACancelledExportGivesItsMemoryBack) {
  engine_.SetFile(std::string(64 << 20, 'x'));
  v1::ExportSessionRequest request;
  request.set_name("sessions/alice");
  Call call;
  auto reader = sessions_->ExportSession(&call, request);
  v1::ExportSessionResponse response;
  ASSERT_TRUE(reader->Read(&response));
  call.TryCancel();
  while (reader->Read(&response)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(engine_.AwaitStreams(0));
}

class ImportTest : public StoredSessionsTest {
 protected:
  // Sends the chunks after an open, unless that is left out.
  grpc::Status Import(const std::vector<std::string>& chunks,
                      const std::string& request_id = "",
                      const std::string& id = "new") {
    Call call;
    auto writer = sessions_->ImportSession(&call, &session_);
    v1::ImportSessionRequest request;
    request.mutable_open()->set_session_id(id);
    request.mutable_open()->set_request_id(request_id);
    writer->Write(request);
    for (const std::string& chunk : chunks) {
      request.set_chunk(chunk);
      writer->Write(request);
    }
    writer->WritesDone();
    return writer->Finish();
  }
};

TEST_F(ImportTest, PiecesBecomeASession) {
  const grpc::Status status = Import({"abc", "de"});
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(session_.name(), "sessions/new");
  EXPECT_EQ(session_.next_offset(), 5);
  EXPECT_TRUE(engine_.AwaitStreams(0));
  EXPECT_EQ(ReasonOf(Import({"abc"})), "SESSION_EXISTS");
}

TEST_F(ImportTest, ADamagedFileAndOneThatIsTooLargeAreRefused) {
  EXPECT_EQ(Import({"damaged"}).error_code(), grpc::StatusCode::DATA_LOSS);
  const grpc::Status large = Import({"123456", "123456", "7"});
  EXPECT_EQ(large.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(ReasonOf(large), "RAM_BUDGET");
  const grpc::Status chunk = Import({std::string((1 << 20) + 1, 'x')});
  EXPECT_EQ(chunk.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FactOf(chunk, "field"), "chunk");
  EXPECT_TRUE(engine_.AwaitStreams(0));
}

TEST_F(ImportTest, OpenComesFirstAndOnce) {
  v1::ImportSessionRequest open;
  open.mutable_open();
  v1::ImportSessionRequest chunk;
  chunk.set_chunk("x");
  const std::vector<std::vector<v1::ImportSessionRequest>> orders = {
      {}, {chunk}, {open, open}, {open, {}}};
  for (const auto& order : orders) {
    Call call;
    auto writer = sessions_->ImportSession(&call, &session_);
    for (const v1::ImportSessionRequest& request : order) {
      writer->Write(request);
    }
    writer->WritesDone();
    EXPECT_EQ(writer->Finish().error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
  }
  EXPECT_TRUE(engine_.AwaitStreams(0));
}

TEST_F(ImportTest, ACancelledImportLeavesNothing) {
  Call call;
  auto writer = sessions_->ImportSession(&call, &session_);
  v1::ImportSessionRequest request;
  request.mutable_open()->set_request_id("r");
  writer->Write(request);
  ASSERT_TRUE(engine_.AwaitStreams(1));
  call.TryCancel();
  EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(engine_.AwaitStreams(0));
  EXPECT_TRUE(Import({"abc"}, "r", "").ok());  // the id is free
}

TEST_F(ImportTest, TheSameRequestGetsTheSameAnswer) {
  ASSERT_TRUE(Import({"abc"}, "r").ok());
  const std::string uid = session_.uid();
  session_.Clear();
  ASSERT_TRUE(Import({"abc"}, "r").ok());
  EXPECT_EQ(session_.uid(), uid);
  EXPECT_EQ(ReasonOf(Import({"abc"}, "r", "other")), "REQUEST_ID_REUSED");
}

TEST_F(ImportTest, TheSecondOfTwoAtOnceGetsTheFirstOnesAnswer) {
  Call first;
  v1::Session reply;
  auto writer = sessions_->ImportSession(&first, &reply);
  v1::ImportSessionRequest request;
  request.mutable_open()->set_session_id("new");
  request.mutable_open()->set_request_id("r");
  writer->Write(request);
  ASSERT_TRUE(engine_.AwaitStreams(1));
  std::thread second([this] { EXPECT_TRUE(Import({"no file"}, "r").ok()); });
  request.set_chunk("abc");
  writer->Write(request);
  writer->WritesDone();
  EXPECT_TRUE(writer->Finish().ok());
  second.join();
  EXPECT_EQ(session_.uid(), reply.uid());
  EXPECT_EQ(session_.next_offset(), 3);
}

TEST_F(ImportTest, ADrainDoesNotWaitForTheRestOfAFile) {
  Call call;
  auto writer = sessions_->ImportSession(&call, &session_);
  v1::ImportSessionRequest request;
  request.mutable_open();
  writer->Write(request);
  ASSERT_TRUE(engine_.AwaitStreams(1));
  server_->Drain(absl::Now() + absl::Seconds(10));
  EXPECT_EQ(ReasonOf(writer->Finish()), "DRAINING");
}

// -- Watched

class WatchTest : public StoredSessionsTest {
 protected:
  void Watch(const std::string& name = "sessions/alice") {
    v1::WatchSessionRequest request;
    request.set_name(name);
    reader_ = sessions_->WatchSession(&call_, request);
  }
  v1::SessionEvent::Type Next() {
    event_.Clear();
    reader_->Read(&event_);
    return event_.type();
  }
  Call call_;
  std::unique_ptr<grpc::ClientReader<v1::SessionEvent>> reader_;
  v1::SessionEvent event_;
};

TEST_F(WatchTest, EventsComeAsTheyHappen) {
  Watch();
  EXPECT_EQ(Next(), v1::SessionEvent::SNAPSHOT_OF_NOW);
  EXPECT_EQ(event_.session().name(), "sessions/alice");
  engine_.Happen(SessionEvent::Kind::kEvicted, "alice");
  EXPECT_EQ(Next(), v1::SessionEvent::EVICTED);
  EXPECT_EQ(event_.detail(), "why");
  engine_.Happen(SessionEvent::Kind::kRolledBack, "alice");
  EXPECT_EQ(Next(), v1::SessionEvent::ROLLED_BACK);
  call_.TryCancel();
  EXPECT_EQ(reader_->Finish().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(engine_.AwaitStreams(0));
}

TEST_F(WatchTest, ItEndsWithItsSession) {
  Watch();
  EXPECT_EQ(Next(), v1::SessionEvent::SNAPSHOT_OF_NOW);
  Call call;
  v1::DeleteSessionRequest request;
  request.set_name("sessions/alice");
  google::protobuf::Empty reply;
  ASSERT_TRUE(sessions_->DeleteSession(&call, request, &reply).ok());
  EXPECT_EQ(Next(), v1::SessionEvent::DELETED);
  EXPECT_FALSE(reader_->Read(&event_));
  EXPECT_TRUE(reader_->Finish().ok());
  EXPECT_TRUE(engine_.AwaitStreams(0));
}

TEST_F(WatchTest, ItEndsWithTheDaemon) {
  Watch();
  EXPECT_EQ(Next(), v1::SessionEvent::SNAPSHOT_OF_NOW);
  server_->Drain(absl::Now() + absl::Seconds(10));
  EXPECT_FALSE(reader_->Read(&event_));
  EXPECT_EQ(ReasonOf(reader_->Finish()), "DRAINING");
}

TEST_F(WatchTest, AMissingSessionIsNamed) {
  Watch("sessions/nobody");
  EXPECT_FALSE(reader_->Read(&event_));
  EXPECT_EQ(ReasonOf(reader_->Finish()), "SESSION_NOT_FOUND");
}

// -- Asked again after a restart

TEST_F(StoredSessionsTest, RequestsOfALifeBeforeAreAnsweredAlike) {
  const auto round = [this](std::vector<std::string>* answers) {
    const auto note = [&](const grpc::Status& status,
                          const google::protobuf::Message& reply) {
      EXPECT_TRUE(status.ok()) << status.error_message();
      answers->push_back(reply.SerializeAsString());
    };
    {
      Call call;
      v1::CreateSessionRequest request;
      request.set_request_id("create");
      const grpc::Status status =
          sessions_->CreateSession(&call, request, &session_);
      note(status, session_);
    }
    {
      v1::ForkSessionRequest request;
      request.set_source("sessions/alice");
      request.set_request_id("fork");
      const grpc::Status status = Fork(request);
      note(status, session_);
    }
    {
      Call call;
      v1::UpdateSessionRequest request;
      request.mutable_session()->set_name("sessions/alice");
      request.mutable_session()->set_pinned(true);
      request.set_request_id("update");
      const grpc::Status status =
          sessions_->UpdateSession(&call, request, &session_);
      note(status, session_);
    }
    {
      const grpc::Status status = Keep("s", "keep");
      note(status, snapshot_);
    }
    {
      v1::RollbackSessionRequest request;
      request.set_name("sessions/alice");
      request.set_snapshot("sessions/alice/snapshots/s");
      request.set_request_id("rollback");
      const grpc::Status status = Rollback(request);
      note(status, session_);
    }
    note(Drop("sessions/alice/snapshots/s", "drop"), google::protobuf::Empty());
    {
      Call call;
      v1::ResetSessionRequest request;
      request.set_name("sessions/alice");
      request.set_request_id("reset");
      const grpc::Status status =
          sessions_->ResetSession(&call, request, &session_);
      note(status, session_);
    }
    {
      Call call;
      auto writer = sessions_->ImportSession(&call, &session_);
      v1::ImportSessionRequest request;
      request.mutable_open()->set_request_id("import");
      writer->Write(request);
      request.set_chunk("abc");
      writer->Write(request);
      writer->WritesDone();
      const grpc::Status status = writer->Finish();
      note(status, session_);
    }
    {
      Call call;
      v1::DeleteSessionRequest request;
      request.set_name("sessions/alice");
      request.set_request_id("delete");
      google::protobuf::Empty reply;
      note(sessions_->DeleteSession(&call, request, &reply), reply);
    }
  };
  std::vector<std::string> first;
  round(&first);
  const int64_t creates = engine_.creates();
  StartServer();
  std::vector<std::string> again;
  round(&again);
  EXPECT_EQ(again, first);
  EXPECT_EQ(engine_.creates(), creates);

  Call call;
  v1::CreateSessionRequest other;
  other.set_request_id("create");
  other.set_session_id("other");
  EXPECT_EQ(ReasonOf(sessions_->CreateSession(&call, other, &session_)),
            "REQUEST_ID_REUSED");
}

}  // namespace
}  // namespace mneme::server
