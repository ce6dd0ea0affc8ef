// SPDX-License-Identifier: Apache-2.0
#include "engine/store/rocksdb/log_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <system_error>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/base/coding.h"
#include "engine/base/crc32c.h"
#include "engine/base/files.h"
#include "engine/base/status_macros.h"
#include "engine/store/store_errors.h"

namespace mneme {
namespace {

constexpr size_t kBlockBytes = 32 << 10;
constexpr size_t kHeaderBytes = 7;
constexpr size_t kFrontBytes = 16;
enum Type : uint8_t { kWhole = 1, kFirst = 2, kMiddle = 3, kLast = 4 };

// As RocksDB masks checksums that are stored beside what they are of.
uint32_t Masked(uint32_t crc) {
  return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

// A log's records, one after the other.
class LogReader {
 public:
  explicit LogReader(std::istream* in) : in_(in) {}

  // False at the end of what is whole.
  bool Next() {
    begin_ = end_;
    front_.clear();
    for (bool inside = false;;) {
      std::string_view contents;
      uint8_t type = 0;
      if (!NextPiece(contents, type)) return false;
      if (inside != (type == kMiddle || type == kLast)) return false;
      front_.append(contents.substr(
          0, kFrontBytes - std::min(front_.size(), kFrontBytes)));
      if (type == kWhole || type == kLast) break;
      inside = true;
    }
    end_ = block_begin_ + place_;
    return true;
  }

  uint64_t begin() const { return begin_; }
  uint64_t end() const { return end_; }
  const std::string& front() const { return front_; }

 private:
  bool NextPiece(std::string_view& contents, uint8_t& type) {
    // The rest of a block that holds no header is padding.
    if (block_.size() - place_ < kHeaderBytes && !NextBlock()) return false;
    if (block_.size() - place_ < kHeaderBytes) return false;
    const char* header = block_.data() + place_;
    const size_t length = static_cast<uint8_t>(header[4]) |
                          size_t{static_cast<uint8_t>(header[5])} << 8;
    type = static_cast<uint8_t>(header[6]);
    if (type < kWhole || type > kLast) return false;
    if (block_.size() - place_ - kHeaderBytes < length) return false;
    const uint32_t crc = Crc32c({header + 6, 1 + length});
    if (Masked(crc) != DecodeFixed32(header)) return false;
    contents = {header + kHeaderBytes, length};
    place_ += kHeaderBytes + length;
    return true;
  }

  bool NextBlock() {
    if (!block_.empty() && block_.size() < kBlockBytes) return false;
    block_begin_ += block_.size();
    block_.resize(kBlockBytes);
    in_->read(block_.data(), kBlockBytes);
    block_.resize(static_cast<size_t>(in_->gcount()));
    place_ = 0;
    return !block_.empty();
  }

  std::istream* const in_;
  std::string block_;
  uint64_t block_begin_ = 0;
  size_t place_ = 0;  // in the block
  uint64_t begin_ = 0;
  uint64_t end_ = 0;
  std::string front_;
};

absl::Status Cut(const std::string& path, uint64_t bytes) {
  const int file = open(path.c_str(), O_WRONLY | O_CLOEXEC);
  const bool cut = file >= 0 &&
                   ftruncate(file, static_cast<off_t>(bytes)) == 0 &&
                   fsync(file) == 0;
  const int error = errno;
  if (file >= 0) close(file);
  if (cut) return absl::OkStatus();
  return StoreUnavailable(
      absl::StrCat("cannot cut ", path, ": ", std::strerror(error)));
}

absl::StatusOr<std::map<uint64_t, std::string>> WriteAheadLogs(
    const std::string& directory) {
  std::map<uint64_t, std::string> logs;
  std::error_code error;
  for (const auto& file :
       std::filesystem::directory_iterator(directory, error)) {
    uint64_t number = 0;
    if (file.path().extension() == ".log" &&
        absl::SimpleAtoi(file.path().stem().string(), &number)) {
      logs[number] = file.path().string();
    }
  }
  if (error) {
    return StoreUnavailable(
        absl::StrCat("cannot list ", directory, ": ", error.message()));
  }
  return logs;
}

// A batch's sequence numbers, from the front of its record.
struct Sequences {
  uint64_t first = 0;
  uint64_t count = 0;
};

}  // namespace

absl::StatusOr<LogExtent> ReadLog(
    const std::string& path,
    absl::FunctionRef<bool(uint64_t begin, std::string_view front)> read) {
  std::ifstream in(path, std::ios::binary);
  std::error_code error;
  LogExtent extent;
  extent.file_bytes = std::filesystem::file_size(path, error);
  if (!in || error) return StoreUnavailable(absl::StrCat("cannot read ", path));
  LogReader log(&in);
  while (log.Next() && read(log.begin(), log.front())) {
    extent.whole_bytes = log.end();
  }
  if (in.bad()) return StoreUnavailable(absl::StrCat("cannot read ", path));
  return extent;
}

absl::Status CheckManifest(const std::string& directory,
                           const Committed& committed) {
  const absl::StatusOr<std::string> current =
      ReadSmallFile(directory + "/CURRENT", 4096);
  constexpr std::string_view kPrefix = "MANIFEST-";
  uint64_t number = 0;
  if (!current.ok() || current->rfind(kPrefix, 0) != 0 ||
      current->back() != '\n' ||
      !absl::SimpleAtoi(
          current->substr(kPrefix.size(), current->size() - kPrefix.size() - 1),
          &number)) {
    return absl::DataLossError(
        absl::StrCat(directory, "/CURRENT is missing or damaged"));
  }
  const std::string path =
      directory + "/" + current->substr(0, current->size() - 1);
  MNEME_ASSIGN_OR_RETURN(
      const LogExtent extent,
      ReadLog(path, [](uint64_t, std::string_view) { return true; }));
  // Of a manifest that no commit was made under, all counts.
  const uint64_t want = number == committed.manifest_number
                            ? committed.manifest_bytes
                            : extent.file_bytes;
  if (extent.whole_bytes < want) {
    return absl::DataLossError(absl::StrCat(path, " is damaged at byte ",
                                            extent.whole_bytes, " of ", want));
  }
  if (extent.whole_bytes == extent.file_bytes) return absl::OkStatus();
  return Cut(path, extent.whole_bytes);
}

absl::Status CheckWriteAheadLogs(const std::string& directory,
                                 const Committed& committed,
                                 absl::optional<uint64_t> last) {
  MNEME_ASSIGN_OR_RETURN(const auto logs, WriteAheadLogs(directory));
  absl::optional<uint64_t> end;          // the last sequence number so far
  bool ended = false;                    // nothing of later logs counts
  std::map<std::string, uint64_t> cuts;  // where to cut which log
  std::string flaws;
  for (const auto& [number, path] : logs) {
    MNEME_ASSIGN_OR_RETURN(
        const LogExtent extent,
        ReadLog(path, [&](uint64_t /*begin*/, std::string_view front) {
          if (ended || front.size() < 12) return false;
          const Sequences found{DecodeFixed64(front.data()),
                                DecodeFixed32(front.data() + 8)};
          const uint64_t found_end = found.first + found.count - 1;
          const bool strange = end.has_value() && found.first != *end + 1;
          if (strange || (last.has_value() && found_end > *last)) {
            ended = true;
            return false;
          }
          end = std::max(end.value_or(found_end), found_end);
          return true;
        }));
    if (extent.whole_bytes == extent.file_bytes) continue;
    cuts[path] = extent.whole_bytes;
    absl::StrAppend(&flaws, flaws.empty() ? "" : ", ", path, " at byte ",
                    extent.whole_bytes);
  }
  if (!cuts.empty() && end.value_or(0) < committed.sequence) {
    return absl::DataLossError(
        absl::StrCat(flaws, ": damaged; changes ", end.value_or(0) + 1, " to ",
                     committed.sequence, " were committed and are lost"));
  }
  for (const auto& [path, bytes] : cuts) {
    MNEME_RETURN_IF_ERROR(Cut(path, bytes));
  }
  return absl::OkStatus();
}

}  // namespace mneme
