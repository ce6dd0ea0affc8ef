// SPDX-License-Identifier: Apache-2.0
#include "server/build_info.h"

namespace mneme::server {

// The build gives both.
const char kVersion[] = MNEME_VERSION;
const char kCommit[] = MNEME_COMMIT;

}  // namespace mneme::server
