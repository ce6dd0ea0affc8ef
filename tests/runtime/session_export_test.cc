// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/session_export.h"

#include <string>
#include <vector>

#include "engine/base/format_head.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/runtime/golden_session.h"
#include "tests/support/status_matchers.h"

namespace mneme {
namespace {

using absl::StatusCode;

constexpr int64_t kMost = 1 << 20;

std::string GoldenExport() {
  return WholeFile(ExportFile(GoldenExportHeader(), GoldenSnapshot()));
}

absl::StatusOr<ExportedSession> Read(std::string_view bytes, size_t chunk,
                                     int64_t most = kMost) {
  ExportReader reader(most);
  absl::Status status;
  for (size_t at = 0; at < bytes.size() && status.ok(); at += chunk) {
    status = reader.Add(bytes.substr(at, chunk));
  }
  absl::StatusOr<ExportedSession> session = reader.Finish();
  if (!status.ok()) {
    EXPECT_EQ(session.status(), status);
  }
  return session;
}

TEST(SessionExportTest, TheBytesOfVersion1StayTheSame) {
  const std::string golden = GoldenFile("export_v1.bin");
  EXPECT_EQ(GoldenExport(), golden);
  EXPECT_EQ(ExportFile(GoldenExportHeader(), GoldenSnapshot()).total_bytes(),
            static_cast<int64_t>(golden.size()));
  const absl::StatusOr<ExportedSession> session = Read(golden, 1000);
  ASSERT_THAT(session, IsOk());
  EXPECT_EQ(session->header, GoldenExportHeader());
  EXPECT_EQ(session->snapshot, GoldenSnapshot());
}

TEST(SessionExportTest, AnyCutGivesTheSame) {
  const std::string bytes = GoldenExport();
  for (const size_t chunk : {1, 2, 3, 15, 16, 17, 35, 36, 37, 500, 100'000}) {
    const absl::StatusOr<ExportedSession> session = Read(bytes, chunk);
    ASSERT_THAT(session, IsOk()) << chunk;
    EXPECT_EQ(session->snapshot, GoldenSnapshot());
  }
}

TEST(SessionExportTest, EveryFlippedBitIsFound) {
  std::string bytes = GoldenExport();
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      const char was = bytes[at];
      bytes[at] = static_cast<char>(was ^ (1 << bit));
      const absl::StatusOr<ExportedSession> session = Read(bytes, 4096);
      // In its first bytes it is no such file at all.
      ASSERT_THAT(session,
                  Fails(at < kFormatHeadBytes ? StatusCode::kInvalidArgument
                                              : StatusCode::kDataLoss,
                        ""))
          << "byte " << at << " bit " << bit;
      bytes[at] = was;
    }
  }
}

TEST(SessionExportTest, NoPieceOfOneIsOne) {
  const std::string bytes = GoldenExport();
  EXPECT_THAT(Read("", 1), HasReason("BAD_FIELD"));
  for (size_t size = 1; size < bytes.size(); ++size) {
    ASSERT_THAT(Read(std::string_view(bytes).substr(0, size), 4096),
                Fails(StatusCode::kDataLoss, "its beginning only"))
        << size;
  }
  EXPECT_THAT(Read(bytes + "x", 4096),
              Fails(StatusCode::kDataLoss, "behind its end"));
}

TEST(SessionExportTest, WhatIsNoSuchFileIsABadField) {
  for (const char* const bytes : {"x", "# A note\n", "MNEMESNP and much more",
                                  "MNEMEEXP and too much of anything else"}) {
    const auto session = Read(bytes, 4096);
    EXPECT_THAT(session, HasReason("BAD_FIELD")) << bytes;
    EXPECT_THAT(session, Fails(StatusCode::kInvalidArgument,
                               "chunk: found no exported session"));
  }
}

TEST(SessionExportTest, ANewerVersionIsNamed) {
  std::string bytes;
  WriteFormatHead("MNEMEEXP", 7, bytes);
  const auto session = Read(bytes + std::string(100, 'x'), 4096);
  EXPECT_THAT(session, Fails(StatusCode::kFailedPrecondition,
                             "found version 7, wanted 1"));
  EXPECT_THAT(session, HasReason("STATE_INCOMPATIBLE"));
}

TEST(SessionExportTest, ALongerOneThanMayBeIsRefusedByItsHead) {
  const std::string bytes = GoldenExport();
  const auto size = static_cast<int64_t>(GoldenSnapshot().size());
  EXPECT_THAT(Read(bytes, 4096, size), IsOk());
  ExportReader reader(size - 1);
  const absl::Status status = reader.Add(bytes.substr(0, 36));
  EXPECT_THAT(status, Fails(StatusCode::kInvalidArgument, "chunk: "));
  EXPECT_THAT(status, HasReason("BAD_FIELD"));
  EXPECT_EQ(reader.Add("more"), status);
}

TEST(SessionExportTest, AHeaderOfAnotherSnapshotIsDamaged) {
  ExportHeader header = GoldenExportHeader();
  ++header.snapshot.offset;
  EXPECT_THAT(Read(WholeFile(ExportFile(header, GoldenSnapshot())), 4096),
              Fails(StatusCode::kDataLoss, "of another snapshot"));
}

TEST(SessionExportTest, AHeaderThatNoSessionHasIsDamaged) {
  ExportHeader header = GoldenExportHeader();
  header.session = "../notes";
  EXPECT_THAT(Read(WholeFile(ExportFile(header, GoldenSnapshot())), 4096),
              Fails(StatusCode::kDataLoss, "session"));
  header = GoldenExportHeader();
  header.labels["Upper"] = "";
  EXPECT_THAT(Read(WholeFile(ExportFile(header, GoldenSnapshot())), 4096),
              Fails(StatusCode::kDataLoss, "labels"));
  header = GoldenExportHeader();
  header.ttl = absl::Seconds(-1);
  EXPECT_THAT(Read(WholeFile(ExportFile(header, GoldenSnapshot())), 4096),
              Fails(StatusCode::kDataLoss, "ttl"));
}

TEST(SessionExportTest, ADamagedSnapshotInsideIsFound) {
  std::string snapshot = GoldenSnapshot();
  snapshot[3000] ^= 1;
  EXPECT_THAT(Read(WholeFile(ExportFile(GoldenExportHeader(), snapshot)), 4096),
              Fails(StatusCode::kDataLoss, "snapshot: "));
}

}  // namespace
}  // namespace mneme
