// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_BASE_SHA256_H_
#define MNEME_ENGINE_BASE_SHA256_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;  // OpenSSL's EVP_MD_CTX

namespace mneme {

// An incremental SHA-256. Not thread-safe.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  ~Sha256();

  void Update(std::string_view bytes);

  // Little-endian, eight bytes: lengths, counts and flags of a digested form.
  void UpdateInt64(int64_t value);

  // The digest of all bytes so far, 64 lower-case hex digits. More may follow.
  std::string HexDigest() const;

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

}  // namespace mneme

#endif  // MNEME_ENGINE_BASE_SHA256_H_
