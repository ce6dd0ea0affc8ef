// SPDX-License-Identifier: Apache-2.0
#include "server/request_id_table.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "server/status.h"

namespace mneme::server {
namespace {

constexpr size_t kMaxIdCharacters = 64;
// Of an entry beside its strings: nodes, pointers, the digest.
constexpr int64_t kEntryBytes = 256;

// Maps have no order of their own; equal requests need equal bytes.
std::string DigestOf(const std::string& method,
                     const google::protobuf::Message& request) {
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream coded(&stream);
    coded.SetSerializationDeterministic(true);
    request.SerializeToCodedStream(&coded);
  }
  Sha256 digest;
  digest.UpdateInt64(static_cast<int64_t>(method.size()));
  digest.Update(method);
  digest.Update(bytes);
  return digest.HexDigest();
}

}  // namespace

absl::Status RequestIdTable::Once(const std::string& id,
                                  const std::string& method,
                                  const google::protobuf::Message& request,
                                  google::protobuf::Message* reply,
                                  absl::FunctionRef<absl::Status()> work) {
  if (id.empty()) return work();
  if (id.size() > kMaxIdCharacters) {
    return BadField("request_id",
                    absl::StrCat("found ", id.size(), " characters, wanted ",
                                 kMaxIdCharacters, " at most"));
  }
  const std::string digest = DigestOf(method, request);

  absl::MutexLock lock(&mu_);
  DropOld();
  if (const auto found = entries_.find(id); found != entries_.end()) {
    if (found->second.request_digest != digest) {
      return WithReason(absl::InvalidArgumentError(
                            "request_id: it came before with another request"),
                        {.reason = "REQUEST_ID_REUSED",
                         .metadata = {{"field", "request_id"}}});
    }
    if (!reply->ParseFromString(found->second.reply)) {
      return absl::InternalError("a remembered reply does not parse");
    }
    return absl::OkStatus();
  }

  MNEME_RETURN_IF_ERROR(work());
  Entry entry{.request_digest = digest, .reply = reply->SerializeAsString()};
  bytes_ += kEntryBytes + static_cast<int64_t>(entry.reply.size());
  entries_.emplace(id, std::move(entry));
  ages_.push_back({.when = options_.clock->Monotonic(), .id = id});
  while (bytes_ > options_.max_bytes && !ages_.empty()) DropOldest();
  return absl::OkStatus();
}

void RequestIdTable::DropOld() {
  const absl::Duration now = options_.clock->Monotonic();
  while (!ages_.empty() && now - ages_.front().when >= options_.keep) {
    DropOldest();
  }
}

void RequestIdTable::DropOldest() {
  const auto found = entries_.find(ages_.front().id);
  bytes_ -= kEntryBytes + static_cast<int64_t>(found->second.reply.size());
  entries_.erase(found);
  ages_.pop_front();
}

}  // namespace mneme::server
