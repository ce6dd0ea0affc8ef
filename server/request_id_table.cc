// SPDX-License-Identifier: Apache-2.0
#include "server/request_id_table.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
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

}  // namespace

std::string RequestDigest(const std::string& method,
                          const google::protobuf::Message& request) {
  // Maps have no order of their own; equal requests need equal bytes.
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

void RequestIdTable::Once(const std::string& id, const std::string& method,
                          const google::protobuf::Message& request,
                          google::protobuf::Message* reply, const Work& work,
                          Done done) {
  if (id.empty()) {
    work(std::move(done));
    return;
  }
  if (id.size() > kMaxIdCharacters) {
    done(BadField("request_id",
                  absl::StrCat("found ", id.size(), " characters, wanted ",
                               kMaxIdCharacters, " at most")));
    return;
  }
  const std::string digest = RequestDigest(method, request);
  absl::Status status;
  bool first = false;
  {
    absl::MutexLock lock(&mu_);
    DropOld();
    const auto [found, is_new] = entries_.try_emplace(id);
    Entry& entry = found->second;
    first = is_new;
    if (first) {
      entry.request_digest = digest;
      entry.waiting.push_back({.reply = reply, .done = done});
    } else if (entry.request_digest != digest) {
      status =
          WithReason(absl::InvalidArgumentError(
                         "request_id: it came before with another request"),
                     {.reason = "REQUEST_ID_REUSED",
                      .metadata = {{"field", "request_id"}}});
    } else if (!entry.answered) {
      entry.waiting.push_back({.reply = reply, .done = std::move(done)});
      return;
    } else if (!reply->ParseFromString(entry.reply)) {
      status = absl::InternalError("a remembered reply does not parse");
    }
  }
  if (first) {
    work([self = shared_from_this(), id, reply](const absl::Status& outcome) {
      self->Finish(id, outcome, *reply);
    });
  } else {
    done(status);
  }
}

void RequestIdTable::Finish(const std::string& id, const absl::Status& status,
                            const google::protobuf::Message& reply) {
  std::vector<Waiting> waiting;
  {
    absl::MutexLock lock(&mu_);
    const auto found = entries_.find(id);
    waiting.swap(found->second.waiting);
    if (status.ok()) {
      Answer(id, reply.SerializeAsString(), options_.clock->Monotonic());
    } else {
      entries_.erase(found);
    }
  }
  for (const Waiting& one : waiting) {
    if (status.ok() && one.reply != &reply) one.reply->CopyFrom(reply);
  }
  // The reply that was worked on may die with its caller: it goes last.
  for (auto one = waiting.rbegin(); one != waiting.rend(); ++one) {
    one->done(status);
  }
}

void RequestIdTable::Answer(const std::string& id, std::string reply,
                            absl::Duration when) {
  Entry& entry = entries_[id];
  entry.answered = true;
  entry.reply = std::move(reply);
  bytes_ += kEntryBytes + static_cast<int64_t>(entry.reply.size());
  ages_.push_back({.when = when, .id = id});
  while (bytes_ > options_.max_bytes && !ages_.empty()) DropOldest();
}

void RequestIdTable::Restore(std::vector<AnsweredRequest> answered) {
  const absl::Time now = options_.clock->Now();
  const absl::Duration monotonic = options_.clock->Monotonic();
  absl::MutexLock lock(&mu_);
  for (AnsweredRequest& request : answered) {
    // The wall clock may have been set since.
    const absl::Duration age =
        std::max(now - request.time, absl::ZeroDuration());
    if (age >= options_.keep) continue;
    absl::Duration when = monotonic - age;
    if (!ages_.empty()) when = std::max(when, ages_.back().when);
    const auto [entry, is_new] = entries_.try_emplace(request.id);
    if (!is_new) continue;
    entry->second.request_digest = std::move(request.digest);
    Answer(request.id, std::move(request.reply), when);
  }
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
