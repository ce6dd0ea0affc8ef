// SPDX-License-Identifier: Apache-2.0
//
// OpenSSL's own context cannot be saved half-way. Its low-level calls, which
// use the same instructions, take the chaining words as they are: they do the
// blocks, and the rest is here.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "engine/base/sha256.h"

#include <openssl/sha.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/escaping.h"
#include "engine/base/byte_coder.h"
#include "engine/base/coding.h"

namespace mneme {

void Sha256::Compress(std::string_view blocks) {
  if (blocks.empty()) return;
  SHA256_CTX context;  // as after whole blocks: none is open
  context.num = 0;
  context.Nl = 0;
  context.Nh = 0;
  std::copy(chain_.begin(), chain_.end(), context.h);
  SHA256_Update(&context, blocks.data(), blocks.size());
  std::copy_n(context.h, chain_.size(), chain_.begin());
}

void Sha256::Update(std::string_view bytes) {
  if (bytes.empty()) return;
  if (const size_t open = open_bytes(); open > 0) {
    const size_t count = std::min(kBlockBytes - open, bytes.size());
    std::memcpy(block_.data() + open, bytes.data(), count);
    bytes_ += count;
    bytes.remove_prefix(count);
    if (open + count < kBlockBytes) return;
    Compress({block_.data(), kBlockBytes});
  }
  const size_t whole = bytes.size() / kBlockBytes * kBlockBytes;
  Compress(bytes.substr(0, whole));
  const std::string_view rest = bytes.substr(whole);
  if (!rest.empty()) std::memcpy(block_.data(), rest.data(), rest.size());
  bytes_ += bytes.size();
}

void Sha256::UpdateInt64(int64_t value) {
  char bytes[8];
  EncodeFixed64(static_cast<uint64_t>(value), bytes);
  Update(std::string_view(bytes, sizeof bytes));
}

// FIPS 180-4, section 5.1.1: a one bit, zeros to the end of a block but for
// eight bytes, and there the number of bits.
std::string Sha256::Digest() const {
  const size_t open = open_bytes();
  const size_t padded = open < kBlockBytes - 8 ? kBlockBytes : 2 * kBlockBytes;
  char end[2 * kBlockBytes] = {};
  std::memcpy(end, block_.data(), open);
  end[open] = static_cast<char>(0x80);
  for (int i = 0; i < 8; ++i) {
    end[padded - 1 - i] = static_cast<char>(bytes_ * 8 >> (8 * i));
  }
  Sha256 last = *this;
  last.Compress({end, padded});
  std::string digest;
  for (const uint32_t word : last.chain_) {
    for (int shift = 24; shift >= 0; shift -= 8) {
      digest.push_back(static_cast<char>(word >> shift));
    }
  }
  return digest;
}

std::string Sha256::HexDigest() const {
  const std::string digest = Digest();
  return absl::BytesToHexString(
      absl::string_view(digest.data(), digest.size()));
}

std::string Sha256::Save() const {
  std::string saved;
  ByteWriter out(saved);
  out.U64(bytes_);
  for (const uint32_t word : chain_) out.U32(word);
  out.Raw({block_.data(), open_bytes()});
  saved.resize(kSavedBytes);
  return saved;
}

absl::optional<Sha256> Sha256::Restore(std::string_view saved) {
  ByteReader in(saved);
  Sha256 hash;
  hash.bytes_ = in.U64();
  for (uint32_t& word : hash.chain_) word = in.U32();
  const std::string_view block = in.Raw(kBlockBytes);
  if (!in.done() || hash.bytes_ > UINT64_MAX / 8) return absl::nullopt;
  // Nothing stands behind the open block, and without a whole one no word has
  // changed.
  const std::string_view behind = block.substr(hash.open_bytes());
  if (behind.find_first_not_of('\0') != std::string_view::npos ||
      (hash.bytes_ < kBlockBytes && hash.chain_ != Sha256().chain_)) {
    return absl::nullopt;
  }
  std::copy(block.begin(), block.end(), hash.block_.begin());
  return hash;
}

}  // namespace mneme
