// SPDX-License-Identifier: Apache-2.0
#include "server/names.h"

#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/errors.h"
#include "engine/base/resource_id.h"
#include "engine/base/sha256.h"
#include "engine/base/status_macros.h"
#include "server/status.h"

namespace mneme::server {
namespace {

constexpr int64_t kDefaultPageSize = 100;
constexpr int64_t kMaxPageSize = 1000;
constexpr size_t kScopeDigits = 16;
constexpr char kSnapshots[] = "/snapshots/";

absl::StatusOr<std::string> ParseName(const std::string& collection,
                                      const std::string& name,
                                      const std::string& field) {
  const std::string prefix = collection + "/";
  if (absl::StartsWith(name, prefix)) {
    std::string id = name.substr(prefix.size());
    if (IsResourceId(id)) return id;
  }
  return BadField(
      field, absl::StrCat("found \"", absl::CHexEscape(name.substr(0, 256)),
                          "\", wanted ", prefix, "{id} with an id of ",
                          kResourceIdPattern));
}

// What a token belongs to, in a few digits.
std::string Scope(const std::string& collection, const std::string& filter) {
  Sha256 digest;
  digest.Update(collection);
  digest.UpdateInt64(static_cast<int64_t>(filter.size()));
  digest.Update(filter);
  return digest.HexDigest().substr(0, kScopeDigits);
}

}  // namespace

std::string SessionName(const std::string& id) { return "sessions/" + id; }
std::string SnapshotName(const std::string& session, const std::string& id) {
  return absl::StrCat(SessionName(session), kSnapshots, id);
}
std::string ModelName(const std::string& id) { return "models/" + id; }
std::string OperationName(const std::string& id) { return "operations/" + id; }

absl::StatusOr<std::string> ParseSessionName(const std::string& name,
                                             const std::string& field) {
  return ParseName("sessions", name, field);
}

absl::StatusOr<SnapshotIds> ParseSnapshotName(const std::string& name,
                                              const std::string& field) {
  const size_t middle = name.find(kSnapshots);
  if (middle != std::string::npos) {
    SnapshotIds ids{.session = name.substr(0, middle),
                    .snapshot = name.substr(middle + sizeof kSnapshots - 1)};
    const absl::StatusOr<std::string> session =
        ParseSessionName(ids.session, field);
    if (session.ok() && IsResourceId(ids.snapshot)) {
      ids.session = *session;
      return ids;
    }
  }
  return BadField(
      field,
      absl::StrCat("found \"", absl::CHexEscape(name.substr(0, 512)),
                   "\", wanted sessions/{id}/snapshots/{id} with ids of ",
                   kResourceIdPattern));
}

absl::StatusOr<std::string> ParseSnapshotOf(const std::string& id,
                                            const std::string& name,
                                            const std::string& field) {
  MNEME_ASSIGN_OR_RETURN(SnapshotIds ids, ParseSnapshotName(name, field));
  if (ids.session == id) return std::move(ids.snapshot);
  return BadField(field, absl::StrCat("found one of session ", ids.session,
                                      ", wanted one of ", id));
}

absl::StatusOr<std::string> ParseModelName(const std::string& name,
                                           const std::string& field) {
  return ParseName("models", name, field);
}

absl::StatusOr<std::string> ParseOperationName(const std::string& name,
                                               const std::string& field) {
  return ParseName("operations", name, field);
}

std::string EncodePageToken(const PageToken& token) {
  return absl::WebSafeBase64Escape(
      absl::StrCat(Scope(token.collection, token.filter), token.after));
}

absl::StatusOr<std::string> DecodePageToken(const std::string& text,
                                            const std::string& collection,
                                            const std::string& filter) {
  if (text.empty()) return std::string();
  std::string plain;
  if (absl::WebSafeBase64Unescape(text, &plain) &&
      plain.size() > kScopeDigits &&
      plain.substr(0, kScopeDigits) == Scope(collection, filter)) {
    std::string after = plain.substr(kScopeDigits);
    if (IsResourceId(after)) return after;
  }
  return WithReason(
      absl::InvalidArgumentError(
          "page_token: wanted the token of the page before, of a listing with "
          "the same filter"),
      {.reason = "BAD_PAGE_TOKEN", .metadata = {{"field", "page_token"}}});
}

absl::StatusOr<int64_t> PageSize(int32_t page_size) {
  if (page_size < 0) {
    return BadField("page_size", absl::StrCat("found ", page_size,
                                              ", wanted 0 to ", kMaxPageSize));
  }
  if (page_size == 0) return kDefaultPageSize;
  return std::min<int64_t>(page_size, kMaxPageSize);
}

}  // namespace mneme::server
