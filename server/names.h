// SPDX-License-Identifier: Apache-2.0
//
// Resource names and page tokens.
#ifndef MNEME_SERVER_NAMES_H_
#define MNEME_SERVER_NAMES_H_

#include <string>

#include "absl/status/statusor.h"

namespace mneme::server {

std::string SessionName(const std::string& id);
std::string SnapshotName(const std::string& session, const std::string& id);
std::string ModelName(const std::string& id);
std::string OperationName(const std::string& id);

// The id in `sessions/{id}`, `models/{id}` or `operations/{id}`.
// INVALID_ARGUMENT naming `field` for anything else.
absl::StatusOr<std::string> ParseSessionName(const std::string& name,
                                             const std::string& field);
// The ids in `sessions/{session}/snapshots/{snapshot}`.
struct SnapshotIds {
  std::string session;
  std::string snapshot;
};
absl::StatusOr<SnapshotIds> ParseSnapshotName(const std::string& name,
                                              const std::string& field);
// The snapshot's, of a name that has to be one of the session `id`.
absl::StatusOr<std::string> ParseSnapshotOf(const std::string& id,
                                            const std::string& name,
                                            const std::string& field);
absl::StatusOr<std::string> ParseModelName(const std::string& name,
                                           const std::string& field);
absl::StatusOr<std::string> ParseOperationName(const std::string& name,
                                               const std::string& field);

// A page token says where a listing goes on, and belongs to one kind of
// listing and one filter. Opaque to clients, and no secret.
struct PageToken {
  std::string collection;  // "sessions"
  std::string filter;
  std::string after;  // the last id that was listed
};

std::string EncodePageToken(const PageToken& token);

// The position in `text`; empty for an empty text, the first page.
// INVALID_ARGUMENT BAD_PAGE_TOKEN for a text that is not ours, or is of
// another collection or filter.
absl::StatusOr<std::string> DecodePageToken(const std::string& text,
                                            const std::string& collection,
                                            const std::string& filter);

// How many resources a page has: the request's `page_size`, 100 for 0, 1000
// for more than that. INVALID_ARGUMENT if negative.
absl::StatusOr<int64_t> PageSize(int32_t page_size);

}  // namespace mneme::server

#endif  // MNEME_SERVER_NAMES_H_
