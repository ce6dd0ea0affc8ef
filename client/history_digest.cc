// SPDX-License-Identifier: Apache-2.0
#include "client/history_digest.h"

#include <openssl/evp.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/escaping.h"

namespace mneme::client {
namespace {

// OpenSSL's digest calls fail only for want of memory or where SHA-256 is
// switched off; there is nothing to go on with then.
void Must(bool done) {
  if (done) return;
  std::fputs("OpenSSL has no memory for a SHA-256, or none at all\n", stderr);
  std::abort();
}

}  // namespace

void HistoryDigest::Free::operator()(EVP_MD_CTX* context) const {
  EVP_MD_CTX_free(context);
}

HistoryDigest::HistoryDigest() : context_(EVP_MD_CTX_new()) {
  Must(context_ != nullptr &&
       EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) == 1);
}

HistoryDigest::HistoryDigest(const HistoryDigest& other) : HistoryDigest() {
  *this = other;
}

HistoryDigest& HistoryDigest::operator=(const HistoryDigest& other) {
  Must(EVP_MD_CTX_copy_ex(context_.get(), other.context_.get()) == 1);
  return *this;
}

HistoryDigest::~HistoryDigest() = default;

void HistoryDigest::Add(std::string_view bytes) {
  Must(EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size()) == 1);
}

std::string HistoryDigest::Hex() const {
  const HistoryDigest copy(*this);
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  Must(EVP_DigestFinal_ex(copy.context_.get(), digest, &size) == 1);
  return absl::BytesToHexString(
      absl::string_view(reinterpret_cast<const char*>(digest), size));
}

}  // namespace mneme::client
