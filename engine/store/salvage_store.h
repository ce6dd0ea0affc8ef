// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_STORE_SALVAGE_STORE_H_
#define MNEME_ENGINE_STORE_SALVAGE_STORE_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/store/rocksdb/rocksdb_kv_store.h"

namespace mneme {

struct SalvageReport {
  // Whether all that was committed is known to be there, so that sessions that
  // can be read are as they were last acknowledged.
  bool complete = true;
  std::vector<std::string> actions;  // what was done, a sentence each
  int64_t sessions = 0;              // that stay usable
  // By id, with the reason, which their record has as well.
  std::map<std::string, std::string> quarantined;
  // By uid: sessions whose record cannot be read.
  std::map<std::string, std::string> unreadable;
};

// Makes a store that refuses to open one that opens, with the store's files
// changed in place. Every session that is not proved whole is quarantined: if
// what was committed is complete, those that VerifySession faults; else all of
// them, because any may have lost its last changes unseen. Fills `report` as
// far as it gets. Errors as of OpenRocksDbStore.
absl::Status SalvageStore(const std::string& directory,
                          const RocksDbOptions& options, SalvageReport& report);

}  // namespace mneme

#endif  // MNEME_ENGINE_STORE_SALVAGE_STORE_H_
