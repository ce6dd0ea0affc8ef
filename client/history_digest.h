// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_CLIENT_HISTORY_DIGEST_H_
#define MNEME_CLIENT_HISTORY_DIGEST_H_

#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;  // OpenSSL's EVP_MD_CTX

namespace mneme::client {

// SHA-256 over a history as offsets count it: what the server calls
// history_digest and digest_at_durable. Token ids go in as four bytes each,
// little-endian. A value: a copy goes on by itself. Not thread-safe.
class HistoryDigest {
 public:
  HistoryDigest();
  HistoryDigest(const HistoryDigest& other);
  HistoryDigest& operator=(const HistoryDigest& other);
  ~HistoryDigest();

  void Add(std::string_view bytes);

  // Of everything added so far, 64 lower-case hex digits. More may follow.
  std::string Hex() const;

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace mneme::client

#endif  // MNEME_CLIENT_HISTORY_DIGEST_H_
