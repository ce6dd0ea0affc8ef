// SPDX-License-Identifier: Apache-2.0
#include "engine/store/rocksdb/rocksdb_kv_store.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "rocksdb/env.h"
#include "tests/support/fault_file_system.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

using Space = KvStore::Space;
using Kind = KvStore::Change::Kind;
using Fault = FaultFileSystem::Fault;

KvStore::Change Put(const std::string& key, const std::string& value,
                    Space space = Space::kJournal) {
  return {Kind::kPut, space, key, value};
}

class RocksDbKvStoreTest : public ::testing::Test {
 protected:
  absl::Status Open(RocksDbOptions options = {}) {
    kv_.reset();
    options.env = env_.get();
    auto opened = RocksDbKvStore::Open(path(), options);
    if (!opened.ok()) return opened.status();
    kv_ = *std::move(opened);
    return absl::OkStatus();
  }
  std::string path() const { return dir_.File("db"); }
  std::set<std::string> Keys(Space space = Space::kJournal) {
    std::set<std::string> keys;
    EXPECT_THAT(kv_->Scan(space, "", "\xff",
                          [&](std::string_view key, std::string_view) {
                            keys.emplace(key);
                            return true;
                          }),
                IsOk());
    return keys;
  }
  // Whether any file of the directory holds `text`.
  bool OnDisk(const std::string& text) {
    bool found = false;
    for (const auto& file :
         std::filesystem::recursive_directory_iterator(path())) {
      if (file.is_regular_file() &&
          ReadFile(file.path().string()).find(text) != std::string::npos) {
        found = true;
      }
    }
    return found;
  }

  TempDir dir_;
  std::shared_ptr<FaultFileSystem> files_ = std::make_shared<FaultFileSystem>();
  std::unique_ptr<rocksdb::Env> env_ = rocksdb::NewCompositeEnv(files_);
  std::unique_ptr<KvStore> kv_;
};

TEST_F(RocksDbKvStoreTest, TheDirectoryIsTheOwnersAlone) {
  ASSERT_THAT(Open(), IsOk());
  struct stat found;
  ASSERT_EQ(stat(path().c_str(), &found), 0);
  EXPECT_EQ(found.st_mode & 0777, 0700u);
}

TEST_F(RocksDbKvStoreTest, ASecondOpeningIsRefused) {
  ASSERT_THAT(Open(), IsOk());
  EXPECT_THAT(RocksDbKvStore::Open(path(), {}),
              Fails(absl::StatusCode::kFailedPrecondition,
                    path() + " is open in another process"));
}

TEST_F(RocksDbKvStoreTest, ADirectoryOfSomethingElseIsLeftAlone) {
  std::filesystem::create_directory(path());
  WriteFile(path() + "/precious", "x");
  EXPECT_THAT(Open(), Fails(absl::StatusCode::kFailedPrecondition, "precious"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(path()),
                          std::filesystem::directory_iterator()),
            1);
}

TEST_F(RocksDbKvStoreTest, AStoreWhoseMakingWasCutShortIsMadeAgain) {
  ASSERT_THAT(Open(), IsOk());
  kv_.reset();
  std::filesystem::remove(path() + "/FORMAT");
  EXPECT_THAT(Open(), IsOk());
  EXPECT_TRUE(std::filesystem::exists(path() + "/FORMAT"));
}

TEST_F(RocksDbKvStoreTest, TheFirstWriteAfterAnOpeningMayBeCutShort) {
  ASSERT_THAT(Open(), IsOk());
  ASSERT_THAT(kv_->Write({Put("a", "1")}, true), IsOk());
  ASSERT_THAT(Open(), IsOk());  // with a log of its own
  kv_.reset();
  for (const auto& file : std::filesystem::directory_iterator(path())) {
    if (file.path().extension() != ".log") continue;
    const std::string log = file.path().string();
    WriteFile(log, ReadFile(log) + std::string(512, 'x'));
  }
  ASSERT_THAT(Open(), IsOk());
  EXPECT_EQ(Keys(), std::set<std::string>{"a"});
}

TEST_F(RocksDbKvStoreTest, ReadsAreAnsweredAgainWithoutAWrite) {
  ASSERT_THAT(Open(), IsOk());
  ASSERT_THAT(kv_->Write({Put("a", "1")}, true), IsOk());
  files_->Fail(Fault::kSyncFails, 1);
  EXPECT_THAT(kv_->Write({Put("b", "2")}, true),
              HasReason("STORE_UNAVAILABLE"));
  EXPECT_THAT(kv_->Write({Put("b", "2")}, true),
              HasReason("STORE_UNAVAILABLE"));
  EXPECT_THAT(kv_->Get(Space::kJournal, "a"), HasReason("STORE_UNAVAILABLE"));
  files_->Heal();
  const auto found = kv_->Get(Space::kJournal, "a");
  ASSERT_THAT(found, IsOk());
  EXPECT_EQ(found->value_or(""), "1");
}

TEST_F(RocksDbKvStoreTest, WhatWasAcknowledgedSurvivesAKill) {
  for (int round = 0; round < 5; ++round) {
    int acknowledged[2];
    ASSERT_EQ(pipe(acknowledged), 0);
    const pid_t child = fork();
    if (child == 0) {
      close(acknowledged[0]);
      auto opened = RocksDbKvStore::Open(path(), {});
      if (!opened.ok()) _exit(1);
      for (int i = 0;; ++i) {
        const std::string key = std::to_string(round) + "/" + std::to_string(i);
        if (!(*opened)->Write({Put(key, std::string(3000, 'v'))}, true).ok()) {
          _exit(1);
        }
        if (write(acknowledged[1], &i, sizeof i) != sizeof i) _exit(1);
        if (i == 50 + 13 * round) kill(getpid(), SIGKILL);
      }
    }
    close(acknowledged[1]);
    int last = -1;
    for (int i; read(acknowledged[0], &i, sizeof i) == sizeof i;) last = i;
    close(acknowledged[0]);
    int status = 0;
    waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status));
    ASSERT_THAT(Open(), IsOk());
    const std::set<std::string> keys = Keys();
    for (int i = 0; i <= last; ++i) {
      EXPECT_TRUE(
          keys.contains(std::to_string(round) + "/" + std::to_string(i)));
    }
    kv_.reset();
  }
}

// Writes until the fault shows, then heals: what was acknowledged is there,
// what was refused is not, now and after reopening.
TEST_F(RocksDbKvStoreTest, AfterAFailedWriteItRecoversByItself) {
  for (const Fault fault :
       {Fault::kFull, Fault::kAppendFails, Fault::kSyncFails}) {
    for (int n = 1; n <= 12; ++n) {
      SCOPED_TRACE(absl::StrCat("fault ", static_cast<int>(fault), " at ", n));
      kv_.reset();
      std::filesystem::remove_all(path());
      ASSERT_THAT(Open(), IsOk());
      std::set<std::string> acknowledged;
      int refused = 0;
      files_->Fail(fault, n);
      for (int i = 0; i < 20; ++i) {
        const std::string key = absl::StrCat("key ", i);
        const absl::Status status =
            kv_->Write({Put(key, "1"), Put("x" + key, std::string(9000, 'b'))},
                       /*sync=*/i % 3 != 0);
        if (status.ok()) {
          acknowledged.insert({key, "x" + key});
        } else {
          EXPECT_THAT(status, HasReason("STORE_UNAVAILABLE"));
          ++refused;
        }
        if (refused == 3) files_->Heal();
      }
      EXPECT_GT(refused, 0);
      files_->Heal();
      EXPECT_THAT(kv_->Write({Put("last", "1")}, true), IsOk());
      acknowledged.insert("last");
      EXPECT_EQ(Keys(), acknowledged);
      ASSERT_THAT(Open(), IsOk());
      EXPECT_EQ(Keys(), acknowledged);
      if (HasFailure()) return;
    }
  }
}

TEST_F(RocksDbKvStoreTest, AFullFileSystemKeepsRoomForDeletes) {
  ASSERT_THAT(Open({.min_free_bytes = 1000}), IsOk());
  ASSERT_THAT(kv_->Write({Put("a", "1")}, true), IsOk());
  files_->SetFreeBytes(999);
  EXPECT_THAT(kv_->Write({Put("b", "1")}, true),
              HasReason("STORE_UNAVAILABLE"));
  EXPECT_THAT(kv_->Write({{Kind::kDelete, Space::kJournal, "a", ""},
                          Put("c", "a small one")},
                         true),
              IsOk());
  EXPECT_THAT(kv_->Write({{Kind::kDelete, Space::kJournal, "c", ""},
                          Put("d", std::string(100000, 'd'))},
                         true),
              HasReason("STORE_UNAVAILABLE"));
  files_->SetFreeBytes(1000);
  EXPECT_THAT(kv_->Write({Put("b", "1")}, true), IsOk());
  EXPECT_THAT(Keys(), testing::ElementsAre("b", "c"));
}

TEST_F(RocksDbKvStoreTest, NothingIsLeftOfWhatWasDeletedBeforeCompacting) {
  ASSERT_THAT(Open(), IsOk());
  const std::string marker = "a marker that is found again";
  const std::string large = marker + std::string(50000, 'x');
  for (const Space space : {Space::kMeta, Space::kJournal}) {
    ASSERT_THAT(
        kv_->Write({Put("small", marker, space), Put("large", large, space),
                    Put("kept", std::string(50000, 'k'), space)},
                   true),
        IsOk());
  }
  ASSERT_THAT(kv_->Write({Put("small", marker, Space::kBlobs),
                          Put("large", large, Space::kBlobs)},
                         true),
              IsOk());
  ASSERT_THAT(kv_->Compact(), IsOk());
  EXPECT_TRUE(OnDisk(marker));
  for (const Space space : {Space::kMeta, Space::kJournal}) {
    ASSERT_THAT(kv_->Write({Put("late", marker, space)}, true), IsOk());
  }
  ASSERT_THAT(kv_->Write({{Kind::kDelete, Space::kBlobs, "small", ""},
                          {Kind::kDelete, Space::kBlobs, "large", ""}},
                         true),
              IsOk());
  for (const Space space : {Space::kMeta, Space::kJournal}) {
    ASSERT_THAT(kv_->Write({{Kind::kDelete, space, "small", ""},
                            {Kind::kDeleteRange, space, "large", "m"}},
                           true),
                IsOk());
  }
  ASSERT_THAT(kv_->Compact(), IsOk());
  EXPECT_FALSE(OnDisk(marker));
  EXPECT_EQ(Keys(), std::set<std::string>{"kept"});
  EXPECT_LT(kv_->used_bytes(), 1 << 20);
}

}  // namespace
}  // namespace mneme
