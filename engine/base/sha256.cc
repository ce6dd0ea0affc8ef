// SPDX-License-Identifier: Apache-2.0
#include "engine/base/sha256.h"

#include <openssl/evp.h>

#include "absl/strings/escaping.h"
#include "engine/base/check.h"
#include "engine/base/coding.h"

namespace mneme {

void Sha256::Free::operator()(EVP_MD_CTX* context) const {
  EVP_MD_CTX_free(context);
}

// OpenSSL's digest calls fail only for want of memory or a missing algorithm.
Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  MNEME_CHECK(context_ != nullptr);
  MNEME_CHECK(EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
}
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;
Sha256::~Sha256() = default;

void Sha256::Update(std::string_view bytes) {
  MNEME_CHECK(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) ==
              1);
}

void Sha256::UpdateInt64(int64_t value) {
  char bytes[8];
  EncodeFixed64(static_cast<uint64_t>(value), bytes);
  Update(std::string_view(bytes, sizeof bytes));
}

std::string Sha256::HexDigest() const {
  const Sha256 copy;
  MNEME_CHECK(EVP_MD_CTX_copy_ex(copy.context_.get(), context_.get()) == 1);
  unsigned char digest[32];
  unsigned int size = 0;
  MNEME_CHECK(EVP_DigestFinal_ex(copy.context_.get(), digest, &size) == 1);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), sizeof digest));
}

}  // namespace mneme
