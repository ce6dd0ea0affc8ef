// SPDX-License-Identifier: Apache-2.0
#include "engine/store/open_store.h"

#include <utility>

#include "engine/base/status_macros.h"
#include "engine/store/memory/memory_kv_store.h"

namespace mneme {

absl::StatusOr<std::unique_ptr<SessionStore>> OpenRocksDbStore(
    const std::string& directory, const SessionStoreOptions& options,
    const RocksDbOptions& rocksdb_options) {
  MNEME_ASSIGN_OR_RETURN(std::unique_ptr<KvStore> kv,
                         RocksDbKvStore::Open(directory, rocksdb_options));
  return KvSessionStore::Open(std::move(kv), options);
}

absl::StatusOr<std::unique_ptr<SessionStore>> MakeMemoryStore(
    const SessionStoreOptions& options) {
  return KvSessionStore::Open(std::make_unique<MemoryKvStore>(), options);
}

}  // namespace mneme
