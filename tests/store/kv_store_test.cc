// SPDX-License-Identifier: Apache-2.0
#include "engine/store/kv_store.h"

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/store/memory/memory_kv_store.h"
#include "engine/store/rocksdb/rocksdb_kv_store.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "tests/support/temp_dir.h"

namespace mneme {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

using Space = KvStore::Space;
using Kind = KvStore::Change::Kind;
using Entries = std::vector<std::pair<std::string, std::string>>;

enum class Backing { kMemory, kRocksDb };

// What every KvStore does.
class KvStoreTest : public ::testing::TestWithParam<Backing> {
 protected:
  KvStoreTest() {
    if (GetParam() == Backing::kMemory) {
      kv_ = std::make_unique<MemoryKvStore>();
    } else {
      auto opened = RocksDbKvStore::Open(dir_.File("db"), {});
      EXPECT_THAT(opened, IsOk());
      kv_ = *std::move(opened);
    }
  }

  void Put(Space space, const std::string& key, const std::string& value) {
    EXPECT_THAT(kv_->Write({{Kind::kPut, space, key, value}}, true), IsOk());
  }
  std::string Get(Space space, const std::string& key) {
    if (space == Space::kBlobs) return GetBlob(key);
    const auto value = kv_->Get(space, key);
    EXPECT_THAT(value, IsOk());
    return value->value_or("(none)");
  }
  std::string GetBlob(const std::string& key) {
    std::string value = "what was there before";
    const auto found = kv_->GetBlob(key, value);
    EXPECT_THAT(found, IsOk());
    return found.value_or(false) ? value : "(none)";
  }
  std::vector<std::string> BlobKeys() {
    std::vector<std::string> keys;
    EXPECT_THAT(kv_->ForEachBlob(
                    [&keys](std::string_view key) { keys.emplace_back(key); }),
                IsOk());
    return keys;
  }
  Entries Scan(Space space, const std::string& begin, const std::string& end,
               size_t at_most = 1000) {
    Entries entries;
    EXPECT_THAT(kv_->Scan(space, begin, end,
                          [&](std::string_view key, std::string_view value) {
                            entries.emplace_back(key, value);
                            return entries.size() < at_most;
                          }),
                IsOk());
    return entries;
  }
  std::string LastKey(Space space, const std::string& begin,
                      const std::string& end) {
    const auto last = kv_->Last(space, begin, end);
    EXPECT_THAT(last, IsOk());
    return last->has_value() ? (*last)->key : "(none)";
  }

  TempDir dir_;
  std::unique_ptr<KvStore> kv_;
};

INSTANTIATE_TEST_SUITE_P(All, KvStoreTest,
                         ::testing::Values(Backing::kMemory, Backing::kRocksDb),
                         [](const auto& tested) {
                           return tested.param == Backing::kMemory ? "Memory"
                                                                   : "RocksDb";
                         });

TEST_P(KvStoreTest, WhatIsPutIsThere) {
  Put(Space::kMeta, "key", "value");
  EXPECT_EQ(Get(Space::kMeta, "key"), "value");
  EXPECT_EQ(Get(Space::kMeta, "other"), "(none)");
}

TEST_P(KvStoreTest, SpacesShareNoKeys) {
  Put(Space::kMeta, "key", "a");
  Put(Space::kBlobs, "key", "b");
  EXPECT_EQ(Get(Space::kMeta, "key"), "a");
  EXPECT_EQ(Get(Space::kJournal, "key"), "(none)");
  EXPECT_EQ(Get(Space::kBlobs, "key"), "b");
}

TEST_P(KvStoreTest, KeysAndValuesAreAnyBytes) {
  const std::string key("\0\xff\0", 3);
  const std::string value(5000, '\0');
  Put(Space::kBlobs, key, value);
  Put(Space::kBlobs, std::string("\0\xff", 2), "");
  EXPECT_EQ(Get(Space::kBlobs, key), value);
  EXPECT_EQ(Get(Space::kBlobs, std::string("\0\xff", 2)), "");
}

TEST_P(KvStoreTest, ABatchIsCarriedOutInItsOrder) {
  EXPECT_THAT(kv_->Write({{Kind::kPut, Space::kMeta, "a", "1"},
                          {Kind::kPut, Space::kMeta, "b", "2"},
                          {Kind::kDelete, Space::kMeta, "a", ""},
                          {Kind::kPut, Space::kMeta, "b", "3"},
                          {Kind::kDeleteRange, Space::kMeta, "c", "e"},
                          {Kind::kPut, Space::kMeta, "d", "4"}},
                         false),
              IsOk());
  EXPECT_THAT(Scan(Space::kMeta, "", "z"),
              ElementsAre(Pair("b", "3"), Pair("d", "4")));
}

TEST_P(KvStoreTest, ARangeIsDeletedWithItsBeginAndWithoutItsEnd) {
  for (const char* key : {"a", "b", "bb", "c", "d"}) {
    Put(Space::kJournal, key, "x");
  }
  EXPECT_THAT(
      kv_->Write({{Kind::kDeleteRange, Space::kJournal, "b", "d"}}, true),
      IsOk());
  EXPECT_THAT(Scan(Space::kJournal, "", "z"),
              ElementsAre(Pair("a", "x"), Pair("d", "x")));
}

TEST_P(KvStoreTest, AnEmptyOrReversedRangeHoldsNothing) {
  Put(Space::kMeta, "b", "x");
  EXPECT_THAT(kv_->Write({{Kind::kDeleteRange, Space::kMeta, "c", "a"},
                          {Kind::kDeleteRange, Space::kMeta, "b", "b"}},
                         true),
              IsOk());
  EXPECT_THAT(Scan(Space::kMeta, "c", "a"), IsEmpty());
  EXPECT_THAT(Scan(Space::kMeta, "b", "b"), IsEmpty());
  EXPECT_EQ(LastKey(Space::kMeta, "c", "a"), "(none)");
  EXPECT_EQ(Get(Space::kMeta, "b"), "x");
}

TEST_P(KvStoreTest, AScanIsInByteOrderAndEndsWhenToldTo) {
  for (const char* key : {"b", "a", "\x7f", "\x80", "aa"}) {
    Put(Space::kMeta, key, "");
  }
  EXPECT_THAT(Scan(Space::kMeta, "a", "\xff"),
              ElementsAre(Pair("a", ""), Pair("aa", ""), Pair("b", ""),
                          Pair("\x7f", ""), Pair("\x80", "")));
  EXPECT_THAT(Scan(Space::kMeta, "a", "\xff", 2),
              ElementsAre(Pair("a", ""), Pair("aa", "")));
}

TEST_P(KvStoreTest, AScanMayReadTheStore) {
  Put(Space::kMeta, "a", "1");
  EXPECT_THAT(kv_->Scan(Space::kMeta, "", "z",
                        [&](std::string_view key, std::string_view) {
                          EXPECT_EQ(Get(Space::kMeta, std::string(key)), "1");
                          return true;
                        }),
              IsOk());
}

TEST_P(KvStoreTest, TheLastIsInTheRangeOrThereIsNone) {
  for (const char* key : {"a", "c", "e"}) Put(Space::kMeta, key, "");
  EXPECT_EQ(LastKey(Space::kMeta, "", "z"), "e");
  EXPECT_EQ(LastKey(Space::kMeta, "", "e"), "c");
  EXPECT_EQ(LastKey(Space::kMeta, "b", "d"), "c");
  EXPECT_EQ(LastKey(Space::kMeta, "d", "e"), "(none)");
  EXPECT_EQ(LastKey(Space::kJournal, "", "z"), "(none)");
}

TEST_P(KvStoreTest, BlobsAreListedAndGoWhenTheyAreDeleted) {
  const int64_t before = kv_->used_bytes();
  for (const char* key : {"b", "\x80", "a"}) {
    Put(Space::kBlobs, key, std::string(100000, *key));
    EXPECT_THAT(kv_->SyncBlob(key), IsOk());
  }
  EXPECT_THAT(BlobKeys(), UnorderedElementsAre("a", "b", "\x80"));
  EXPECT_GE(kv_->used_bytes(), before + 300000);
  EXPECT_THAT(kv_->Write({{Kind::kDelete, Space::kBlobs, "b", ""},
                          {Kind::kDelete, Space::kBlobs, "none", ""}},
                         true),
              IsOk());
  EXPECT_THAT(BlobKeys(), UnorderedElementsAre("a", "\x80"));
  EXPECT_EQ(Get(Space::kBlobs, "b"), "(none)");
  EXPECT_EQ(Get(Space::kBlobs, "a"), std::string(100000, 'a'));
  EXPECT_LT(kv_->used_bytes(), before + 300000);
}

TEST_P(KvStoreTest, CompactingChangesNothing) {
  Put(Space::kMeta, "a", "1");
  Put(Space::kBlobs, "b", std::string(100000, 'b'));
  EXPECT_THAT(kv_->Compact(), IsOk());
  EXPECT_EQ(Get(Space::kMeta, "a"), "1");
  EXPECT_EQ(Get(Space::kBlobs, "b"), std::string(100000, 'b'));
  EXPECT_GT(kv_->used_bytes(), 100000);
}

}  // namespace
}  // namespace mneme
