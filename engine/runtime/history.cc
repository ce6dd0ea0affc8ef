// SPDX-License-Identifier: Apache-2.0
#include "engine/runtime/history.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/byte_coder.h"
#include "engine/base/coding.h"

namespace mneme {

void History::Add(std::string_view bytes) {
  hash_.Update(bytes);
  Keep(bytes);
}

void History::Keep(std::string_view bytes) {
  bytes_ += static_cast<int64_t>(bytes.size());
  if (static_cast<int64_t>(bytes.size()) > kKeptBytes) {
    bytes.remove_prefix(bytes.size() - kKeptBytes);
  }
  int64_t at = bytes_ - static_cast<int64_t>(bytes.size());
  const int64_t wanted = std::min(bytes_, kKeptBytes);
  if (static_cast<int64_t>(kept_.size()) < wanted) kept_.resize(wanted);
  while (!bytes.empty()) {
    const int64_t place = at % kKeptBytes;
    const size_t count = std::min<size_t>(bytes.size(), kKeptBytes - place);
    std::copy_n(bytes.data(), count, &kept_[place]);
    bytes.remove_prefix(count);
    at += static_cast<int64_t>(count);
  }
}

History::Match History::Compare(int64_t offset, std::string_view bytes) const {
  int64_t at = offset * unit_bytes();
  const int64_t oldest = bytes_ - static_cast<int64_t>(kept_.size());
  const bool all_kept = at >= oldest;
  if (!all_kept) {
    const int64_t gone =
        std::min<int64_t>(oldest - at, static_cast<int64_t>(bytes.size()));
    bytes.remove_prefix(gone);
    at += gone;
  }
  for (const char c : bytes) {
    if (kept_[at++ % kKeptBytes] != c) return Match::kDifferent;
  }
  return all_kept ? Match::kSame : Match::kTooOld;
}

void History::Encode(std::string& out) const {
  ByteWriter writer(out);
  writer.Bool(unit_ == SessionUnit::kTokens);
  writer.Raw(hash_.Save());
  // The oldest first.
  const int64_t oldest =
      (bytes_ - static_cast<int64_t>(kept_.size())) % kKeptBytes;
  const std::string_view kept = kept_;
  writer.Raw(kept.substr(oldest));
  writer.Raw(kept.substr(0, oldest));
}

absl::StatusOr<History> History::Decode(std::string_view in) {
  ByteReader reader(in);
  History history(reader.Bool() ? SessionUnit::kTokens : SessionUnit::kText);
  const absl::optional<Sha256> hash =
      Sha256::Restore(reader.Raw(Sha256::kSavedBytes));
  if (!reader.ok() || !hash.has_value()) {
    return absl::DataLossError("history: found no saved digest");
  }
  const auto bytes = static_cast<int64_t>(hash->bytes());
  const int64_t kept = std::min(bytes, kKeptBytes);
  if (bytes % history.unit_bytes() != 0 ||
      static_cast<int64_t>(reader.left()) != kept) {
    return absl::DataLossError(absl::StrCat("history: found ", reader.left(),
                                            " kept bytes of ", bytes));
  }
  history.hash_ = *hash;
  history.bytes_ = bytes - kept;
  history.Keep(reader.Raw(kept));
  return history;
}

std::string TokenBytes(const std::vector<int32_t>& tokens) {
  std::string bytes(tokens.size() * 4, '\0');
  for (size_t i = 0; i < tokens.size(); ++i) {
    EncodeFixed32(static_cast<uint32_t>(tokens[i]), &bytes[i * 4]);
  }
  return bytes;
}

int64_t PayloadSize(const Payload& payload) {
  if (const auto* text = std::get_if<std::string>(&payload)) {
    return static_cast<int64_t>(text->size());
  }
  return 4 *
         static_cast<int64_t>(std::get<std::vector<int32_t>>(payload).size());
}

std::string PayloadBytes(const Payload& payload) {
  if (const auto* text = std::get_if<std::string>(&payload)) return *text;
  return TokenBytes(std::get<std::vector<int32_t>>(payload));
}

}  // namespace mneme
