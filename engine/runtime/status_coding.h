// SPDX-License-Identifier: Apache-2.0
#ifndef MNEME_ENGINE_RUNTIME_STATUS_CODING_H_
#define MNEME_ENGINE_RUNTIME_STATUS_CODING_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/base/byte_coder.h"

namespace mneme {

// A status with its message and reason. A reader fails on a code that there is
// not.
void EncodeStatus(const absl::Status& status, ByteWriter& out);
absl::Status DecodeStatus(ByteReader& in);

// A duration to the nanosecond; longer ones than 292 years are cut.
void EncodeDuration(absl::Duration duration, ByteWriter& out);
absl::Duration DecodeDuration(ByteReader& in);

}  // namespace mneme

#endif  // MNEME_ENGINE_RUNTIME_STATUS_CODING_H_
