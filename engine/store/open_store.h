// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_STORE_OPEN_STORE_H_
#define MNEME_ENGINE_STORE_OPEN_STORE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/store/kv_session_store.h"
#include "engine/store/rocksdb/rocksdb_kv_store.h"
#include "engine/store/session_store.h"

namespace mneme {

// Sessions that survive a crash and a loss of power. Errors as of
// RocksDbKvStore::Open and KvSessionStore::Open.
absl::StatusOr<std::unique_ptr<SessionStore>> OpenRocksDbStore(
    const std::string& directory, const SessionStoreOptions& options,
    const RocksDbOptions& rocksdb_options = {});

// Sessions that end with the process.
absl::StatusOr<std::unique_ptr<SessionStore>> MakeMemoryStore(
    const SessionStoreOptions& options);

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_OPEN_STORE_H_
