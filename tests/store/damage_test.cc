// SPDX-License-Identifier: Apache-2.0
//
// Damaged files: a store either refuses to open, or says of which session
// something is damaged; what it gives is what was acknowledged.
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/store/open_store.h"
#include "engine/store/salvage_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/store/store_fixture.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

namespace fs = std::filesystem;

constexpr int kSessions = 3;

std::string BlobOf(int session) {
  return std::string(4200, static_cast<char>('A' + session));
}

// A store as a crash leaves it: part of it in tables, part in the log, part in
// files of blobs. Sessions 0 and 1 are active; session 2 is at rest.
void FillStore(const std::string& directory, const std::string& image) {
  auto opened = OpenRocksDbStore(directory, {});
  ASSERT_THAT(opened, IsOk());
  SessionStore& store = **opened;
  for (int i = 0; i < kSessions; ++i) {
    const absl::StatusOr<uint64_t> blob = MakeBlob(store, BlobOf(i));
    ASSERT_THAT(blob, IsOk());
    ASSERT_THAT(WriteNow(store, PutRecord(RecordWithBlob(i, *blob))), IsOk());
    ASSERT_THAT(WriteNow(store, Append(i, 0, {"a", "b"})), IsOk());
  }
  StoreWrite rest = PutRecord(RecordWithBlob(2, 3, 2));
  ASSERT_THAT(WriteNow(store, rest), IsOk());
  ASSERT_THAT(store.Compact(), IsOk());
  ASSERT_THAT(WriteNow(store, Append(0, 2, {"c"})), IsOk());
  ASSERT_THAT(WriteNow(store, Append(1, 2, {"c"})), IsOk());
  ASSERT_THAT(WriteNow(store, Append(0, 3, {"d"})), IsOk());
  fs::copy(directory, image, fs::copy_options::recursive);
}

// What a store that can be opened says: empty if all is there.
std::string WhatIsWrong(const SessionStore& store) {
  std::map<std::string, SessionRecord> sessions;
  std::map<std::string, std::string> damaged;
  const absl::Status read = store.ReadSessions(
      [&](FoundSession session) {
        sessions[session.record.uid] = session.record;
      },
      [&](const std::string& uid, const absl::Status& error) {
        EXPECT_THAT(error, Fails(absl::StatusCode::kDataLoss, ""));
        damaged[uid] = std::string(error.message());
      });
  if (!read.ok()) return std::string(read.ToString());
  std::string wrong;
  for (int i = 0; i < kSessions; ++i) {
    if (damaged.contains(Uid(i))) {
      wrong += damaged[Uid(i)] + "; ";
      continue;
    }
    EXPECT_TRUE(sessions.contains(Uid(i))) << "session " << i << " vanished";
    if (!sessions.contains(Uid(i))) continue;
    const SessionRecord& record = sessions[Uid(i)];
    EXPECT_EQ(record, RecordWithBlob(i, i + 1, i == 2 ? 2 : 0));
    const absl::StatusOr<std::string> blob = ReadBlob(store, i + 1);
    if (blob.ok()) {
      EXPECT_EQ(*blob, BlobOf(i));
    } else {
      EXPECT_THAT(blob, Fails(absl::StatusCode::kDataLoss, ""));
      wrong += std::string(blob.status().message()) + "; ";
    }
    std::vector<std::string> journal;
    const absl::Status whole =
        store.ReadJournal(Uid(i), 0, [&](uint64_t, std::string_view payload) {
          journal.emplace_back(payload);
          return true;
        });
    std::vector<std::string> want = {"a", "b", "c", "d"};
    want.resize(i == 0 ? 4 : i == 1 ? 3 : 2);
    if (whole.ok()) {
      EXPECT_EQ(journal, want) << "session " << i;
    } else {
      EXPECT_THAT(whole, Fails(absl::StatusCode::kDataLoss, ""));
      wrong += std::string(whole.message()) + "; ";
    }
    EXPECT_EQ(store.VerifySession(Uid(i)).ok(), blob.ok() && whole.ok());
  }
  return wrong;
}

class DamageTest : public ::testing::Test {
 protected:
  void SetUp() override { FillStore(dir_.File("store"), dir_.File("image")); }

  // With one file of the image changed.
  std::string OpenWith(const std::string& name, const std::string& contents) {
    const std::string copy = dir_.File("copy");
    fs::remove_all(copy);
    fs::copy(dir_.File("image"), copy, fs::copy_options::recursive);
    WriteFile((fs::path(copy) / name).string(), contents);
    auto opened = OpenRocksDbStore(copy, {});
    if (!opened.ok()) {
      EXPECT_THAT(opened, testing::AnyOf(
                              Fails(absl::StatusCode::kDataLoss, ""),
                              Fails(absl::StatusCode::kFailedPrecondition, ""),
                              Fails(absl::StatusCode::kUnavailable, "")));
      return std::string(opened.status().ToString());
    }
    return WhatIsWrong(**opened);
  }
  std::vector<std::string> Files(const std::string& part) {
    std::vector<std::string> names;
    const fs::path image = dir_.File("image");
    for (const auto& file : fs::recursive_directory_iterator(image)) {
      if (!file.is_regular_file()) continue;
      const std::string name = fs::relative(file.path(), image).string();
      if (name.find(part) != std::string::npos) names.push_back(name);
    }
    return names;
  }
  std::string Contents(const std::string& name) {
    return ReadFile((fs::path(dir_.File("image")) / name).string());
  }

  TempDir dir_;
};

TEST_F(DamageTest, TheImageOfACrashIsWhole) {
  EXPECT_EQ(OpenWith("extra", ""), "");
}

// MNEME_EVERY_BIT=1 flips each bit of what holds the store together, one at a
// time; else, and in tables and blobs, one of every so many. (Debian's
// RocksDB ends the process at one bit of a table that it opens: FORMAT.md.)
TEST_F(DamageTest, AFlippedBitNeverGoesUnnoticed) {
  const bool every_bit = std::getenv("MNEME_EVERY_BIT") != nullptr;
  std::map<std::string, std::pair<int, int>> noticed;  // of how many
  for (const std::string& name : Files("")) {
    const std::string whole = Contents(name);
    const bool blob = name.ends_with(".blob");
    const bool big = name.ends_with(".sst");
    const bool idle = name.starts_with("OPTIONS") || name.starts_with("LOG");
    const size_t stride = idle        ? 8 * 997
                          : blob      ? 997
                          : big       ? 107
                          : every_bit ? 1
                                      : 29;
    for (size_t bit = 0; bit < 8 * whole.size(); bit += stride) {
      std::string flipped = whole;
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
      SCOPED_TRACE(name + " bit " + std::to_string(bit));
      const std::string wrong = OpenWith(name, flipped);
      ++noticed[name].second;
      if (!wrong.empty()) ++noticed[name].first;
      if (HasFailure()) return;
      // All of it was synced.
      if (name.ends_with(".log")) {
        ASSERT_NE(wrong, "");
      }
    }
  }
  for (const auto& [name, counts] : noticed) {
    std::printf("%s: %d of %d noticed\n", name.c_str(), counts.first,
                counts.second);
  }
}

TEST_F(DamageTest, ALogThatWasCutIsNoticedWhereverItWasCut) {
  for (const std::string& name : Files(".log")) {
    const std::string whole = Contents(name);
    for (size_t size = 0; size < whole.size(); size += 3) {
      SCOPED_TRACE(name + " cut at " + std::to_string(size));
      ASSERT_NE(OpenWith(name, whole.substr(0, size)), "");
      ASSERT_FALSE(HasFailure());
    }
  }
}

TEST_F(DamageTest, AManifestThatWasCutIsNoticedWhereverItWasCut) {
  for (const std::string& name : Files("MANIFEST")) {
    const std::string whole = Contents(name);
    for (size_t size = 0; size < whole.size(); size += 17) {
      SCOPED_TRACE(name + " cut at " + std::to_string(size));
      ASSERT_NE(OpenWith(name, whole.substr(0, size)), "");
      ASSERT_FALSE(HasFailure());
    }
  }
}

TEST_F(DamageTest, WhatACrashLeftBehindTheLogIsCutOff) {
  for (const std::string& name : Files(".log")) {
    const std::string whole = Contents(name);
    for (const std::string& tail :
         {std::string(1, 'x'), std::string(5, '\0'), std::string(500, '\0'),
          std::string(500, 'x'), whole.substr(0, whole.size() / 4)}) {
      EXPECT_EQ(OpenWith(name, whole + tail), "");
    }
  }
  for (const std::string& name : Files("MANIFEST")) {
    EXPECT_EQ(OpenWith(name, Contents(name) + std::string(30, '\0')), "");
    EXPECT_EQ(OpenWith(name, Contents(name) + std::string(30, 'x')), "");
  }
}

TEST_F(DamageTest, AMissingFileIsNoticed) {
  for (const std::string& name : Files("")) {
    if (name.starts_with("LOG") || name.starts_with("LOCK") ||
        name.starts_with("OPTIONS") || name.starts_with("IDENTITY")) {
      continue;
    }
    SCOPED_TRACE(name);
    const std::string copy = dir_.File("copy");
    fs::remove_all(copy);
    fs::copy(dir_.File("image"), copy, fs::copy_options::recursive);
    fs::remove(fs::path(copy) / name);
    auto opened = OpenRocksDbStore(copy, {});
    if (opened.ok()) {
      EXPECT_NE(WhatIsWrong(**opened), "");
    }
  }
}

TEST_F(DamageTest, AnotherFormatVersionIsNamed) {
  for (const char* other : {"mneme-store 1\n", "mneme-store 3\n"}) {
    EXPECT_THAT(OpenWith("FORMAT", other),
                testing::HasSubstr("want \"mneme-store 2"));
  }
}

class SalvageTest : public DamageTest {
 protected:
  // Each session is whole, or quarantined, or told of.
  SalvageReport Salvage(const std::string& name, const std::string& contents) {
    const std::string copy = dir_.File("copy");
    OpenWith(name, contents);
    SalvageReport report;
    EXPECT_THAT(SalvageStore(copy, {}, report), IsOk());
    auto opened = OpenRocksDbStore(copy, {});
    EXPECT_THAT(opened, IsOk());
    if (!opened.ok()) return report;
    EXPECT_THAT((*opened)->ReadRequests(), IsOk());
    std::map<std::string, bool> seen;
    EXPECT_THAT((*opened)->ReadSessions(
                    [&](FoundSession session) {
                      const SessionRecord& record = session.record;
                      seen[record.uid] = true;
                      EXPECT_EQ(record.quarantine.empty(),
                                !report.quarantined.contains(record.id));
                      if (!record.quarantine.empty()) return;
                      EXPECT_THAT((*opened)->VerifySession(record.uid), IsOk());
                      const int number = record.id.back() - '0';
                      EXPECT_EQ(Journal(**opened, number).size(),
                                number == 0   ? 4u
                                : number == 1 ? 3u
                                              : 2u);
                    },
                    [&](const std::string& uid, const absl::Status&) {
                      seen[uid] = true;
                      EXPECT_TRUE(report.unreadable.contains(uid));
                    }),
                IsOk());
    if (report.complete) {
      EXPECT_EQ(seen.size(), static_cast<size_t>(kSessions));
    }
    return report;
  }
};

TEST_F(SalvageTest, AWholeStoreIsLeftAsItIs) {
  const SalvageReport report = Salvage("extra", "");
  EXPECT_TRUE(report.complete);
  EXPECT_EQ(report.sessions, kSessions);
  EXPECT_THAT(report.actions, testing::IsEmpty());
}

TEST_F(SalvageTest, ALostEndOfTheLogPutsAllSessionsInDoubt) {
  for (const std::string& name : Files(".log")) {
    const std::string whole = Contents(name);
    for (const size_t cut : {whole.size() - 1, whole.size() / 2, size_t{0}}) {
      SCOPED_TRACE(std::to_string(cut));
      const SalvageReport report = Salvage(name, whole.substr(0, cut));
      EXPECT_FALSE(report.complete);
      EXPECT_EQ(report.quarantined.size(), static_cast<size_t>(kSessions));
    }
  }
}

TEST_F(SalvageTest, OfADamagedBlobOnlyItsSessionSuffers) {
  for (const std::string& name : Files(".blob")) {
    std::string contents = Contents(name);
    const size_t place = contents.find(std::string(100, 'B'));
    if (place == std::string::npos) continue;
    contents[place] = 'x';
    const SalvageReport report = Salvage(name, contents);
    EXPECT_TRUE(report.complete);
    EXPECT_EQ(report.sessions, kSessions - 1);
    EXPECT_TRUE(report.quarantined.contains("session-1"));
  }
}

TEST_F(SalvageTest, WhateverIsDamagedTheStoreOpensAgain) {
  for (const std::string& name : Files("")) {
    const std::string whole = Contents(name);
    for (const double place : {0.1, 0.4, 0.5, 0.8, 0.99}) {
      SCOPED_TRACE(name + " at " + std::to_string(place));
      std::string damaged = whole;
      if (damaged.empty()) continue;
      damaged[static_cast<size_t>(place * static_cast<double>(whole.size()))] ^=
          0x14;
      Salvage(name, damaged);
      Salvage(name,
              whole.substr(0, static_cast<size_t>(
                                  place * static_cast<double>(whole.size()))));
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace mneme
