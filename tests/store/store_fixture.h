// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_TESTS_STORE_STORE_FIXTURE_H_
#define MNEME_TESTS_STORE_STORE_FIXTURE_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/base/status_macros.h"
#include "engine/base/wait_for.h"
#include "engine/store/session_store.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace mneme {

// 32 hex digits that end with `number`.
inline std::string Uid(int number) {
  return std::string(absl::StrCat(absl::Hex(number, absl::kZeroPad16),
                                  absl::Hex(number, absl::kZeroPad16)));
}

inline SessionRecord Record(int number, uint64_t replay_seq = 0) {
  SessionRecord record;
  record.id = std::string(absl::StrCat("session-", number));
  record.uid = Uid(number);
  record.model = "m";
  record.create_time = absl::FromUnixSeconds(1700000000);
  record.update_time = record.create_time;
  record.replay_seq = replay_seq;
  return record;
}

// With one automatic snapshot, in `blob`.
inline SessionRecord RecordWithBlob(int number, uint64_t blob,
                                    uint64_t replay_seq = 0) {
  SessionRecord record = Record(number, replay_seq);
  record.ring.push_back({.blob = blob, .next_seq = replay_seq});
  return record;
}

inline StoreWrite PutRecord(SessionRecord record) {
  StoreWrite write;
  write.uid = record.uid;
  write.create = true;
  write.record = std::move(record);
  return write;
}

inline StoreWrite Append(int number, uint64_t seq,
                         std::vector<std::string> payloads) {
  StoreWrite write;
  write.uid = Uid(number);
  for (std::string& payload : payloads) {
    write.append.push_back({seq++, std::move(payload)});
  }
  return write;
}

inline StoreWrite Remove(int number) {
  StoreWrite write;
  write.uid = Uid(number);
  write.remove = true;
  return write;
}

// Contents that a record may refer to by the number.
inline absl::StatusOr<uint64_t> MakeBlob(SessionStore& store,
                                         std::string contents) {
  MNEME_ASSIGN_OR_RETURN(const uint64_t blob, store.WriteBlob(contents));
  MNEME_RETURN_IF_ERROR(store.SyncBlob(blob));
  return blob;
}

inline absl::StatusOr<std::string> ReadBlob(const SessionStore& store,
                                            uint64_t blob) {
  std::string contents = "what was there before";
  MNEME_RETURN_IF_ERROR(store.ReadBlob(blob, contents));
  return contents;
}

// Waits for the write to be done.
inline absl::Status WriteNow(SessionStore& store, StoreWrite write) {
  return WaitFor<absl::Status>([&](SessionStore::Done done) {
    store.Write(std::move(write), std::move(done));
  });
}

inline std::vector<std::string> Journal(const SessionStore& store, int number,
                                        uint64_t seq = 0) {
  std::vector<std::string> payloads;
  EXPECT_THAT(store.ReadJournal(Uid(number), seq,
                                [&](uint64_t, std::string_view payload) {
                                  payloads.emplace_back(payload);
                                  return true;
                                }),
              IsOk());
  return payloads;
}

// By id. Damaged ones are failures.
inline std::map<std::string, FoundSession> Sessions(const SessionStore& store) {
  std::map<std::string, FoundSession> sessions;
  EXPECT_THAT(store.ReadSessions(
                  [&](FoundSession session) {
                    std::string id = session.record.id;
                    sessions.emplace(std::move(id), std::move(session));
                  },
                  [](const std::string& uid, const absl::Status& error) {
                    ADD_FAILURE()
                        << uid << ": " << std::string(error.ToString());
                  }),
              IsOk());
  return sessions;
}

}  // namespace mneme

#endif  // MNEME_TESTS_STORE_STORE_FIXTURE_H_
