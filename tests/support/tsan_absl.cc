// SPDX-License-Identifier: Apache-2.0
//
// Lets the thread sanitizer see Abseil's locks. Debian's Abseil is built
// without it, so a program that is built with it would find a race in all that
// an absl::Mutex guards. These definitions take the place of the shared
// library's, for the program and for the libraries it loads: each calls the
// original and tells the sanitizer what that established. Conditions are
// evaluated inside the originals, by whichever thread holds the lock, so reads
// there are not looked at.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"

extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
}

namespace {

template <typename Function>
Function Original(const char* symbol) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, symbol));
}

// Reads are not looked at while it lives.
class IgnoreReads {
 public:
  IgnoreReads() { AnnotateIgnoreReadsBegin(__FILE__, __LINE__); }
  ~IgnoreReads() { AnnotateIgnoreReadsEnd(__FILE__, __LINE__); }
};

void* Address(const void* object) { return const_cast<void*>(object); }

}  // namespace

// MNEME_ORIGINAL("symbol", result, parameters...): the original function.
#define MNEME_ORIGINAL(symbol, result, ...) \
  static const auto original =              \
      Original<result (*)(__VA_ARGS__)>("_ZN4absl7debian3" symbol)
#define MNEME_ORIGINAL_CONST(symbol, result, ...) \
  static const auto original =                    \
      Original<result (*)(__VA_ARGS__)>("_ZNK4absl7debian3" symbol)

namespace absl {
ABSL_NAMESPACE_BEGIN

void Mutex::Lock() {
  MNEME_ORIGINAL("5Mutex4LockEv", void, Mutex*);
  original(this);
  __tsan_acquire(this);
}

void Mutex::Unlock() {
  MNEME_ORIGINAL("5Mutex6UnlockEv", void, Mutex*);
  __tsan_release(this);
  const IgnoreReads ignore;
  original(this);
}

bool Mutex::TryLock() {
  MNEME_ORIGINAL("5Mutex7TryLockEv", bool, Mutex*);
  const bool locked = original(this);
  if (locked) __tsan_acquire(this);
  return locked;
}

void Mutex::ReaderLock() {
  MNEME_ORIGINAL("5Mutex10ReaderLockEv", void, Mutex*);
  original(this);
  __tsan_acquire(this);
}

void Mutex::ReaderUnlock() {
  MNEME_ORIGINAL("5Mutex12ReaderUnlockEv", void, Mutex*);
  __tsan_release(this);
  const IgnoreReads ignore;
  original(this);
}

void Mutex::Await(const Condition& condition) {
  MNEME_ORIGINAL("5Mutex5AwaitERKNS0_9ConditionE", void, Mutex*,
                 const Condition&);
  __tsan_release(this);
  {
    const IgnoreReads ignore;
    original(this, condition);
  }
  __tsan_acquire(this);
}

bool Mutex::AwaitWithTimeout(const Condition& condition, Duration timeout) {
  MNEME_ORIGINAL("5Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE",
                 bool, Mutex*, const Condition&, Duration);
  __tsan_release(this);
  bool met;
  {
    const IgnoreReads ignore;
    met = original(this, condition, timeout);
  }
  __tsan_acquire(this);
  return met;
}

bool Mutex::AwaitWithDeadline(const Condition& condition, Time deadline) {
  MNEME_ORIGINAL("5Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE", bool,
                 Mutex*, const Condition&, Time);
  __tsan_release(this);
  bool met;
  {
    const IgnoreReads ignore;
    met = original(this, condition, deadline);
  }
  __tsan_acquire(this);
  return met;
}

void Mutex::LockWhen(const Condition& condition) {
  MNEME_ORIGINAL("5Mutex8LockWhenERKNS0_9ConditionE", void, Mutex*,
                 const Condition&);
  {
    const IgnoreReads ignore;
    original(this, condition);
  }
  __tsan_acquire(this);
}

bool Mutex::LockWhenWithDeadline(const Condition& condition, Time deadline) {
  MNEME_ORIGINAL("5Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE",
                 bool, Mutex*, const Condition&, Time);
  bool met;
  {
    const IgnoreReads ignore;
    met = original(this, condition, deadline);
  }
  __tsan_acquire(this);
  return met;
}

void CondVar::Wait(Mutex* mutex) {
  MNEME_ORIGINAL("7CondVar4WaitEPNS0_5MutexE", void, CondVar*, Mutex*);
  __tsan_release(mutex);
  {
    const IgnoreReads ignore;
    original(this, mutex);
  }
  __tsan_acquire(mutex);
}

bool CondVar::WaitWithDeadline(Mutex* mutex, Time deadline) {
  MNEME_ORIGINAL("7CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE", bool,
                 CondVar*, Mutex*, Time);
  __tsan_release(mutex);
  bool timed_out;
  {
    const IgnoreReads ignore;
    timed_out = original(this, mutex, deadline);
  }
  __tsan_acquire(mutex);
  return timed_out;
}

void Notification::Notify() {
  MNEME_ORIGINAL("12Notification6NotifyEv", void, Notification*);
  __tsan_release(this);
  original(this);
}

void Notification::WaitForNotification() const {
  MNEME_ORIGINAL_CONST("12Notification19WaitForNotificationEv", void,
                       const Notification*);
  original(this);
  __tsan_acquire(Address(this));
}

bool Notification::WaitForNotificationWithTimeout(Duration timeout) const {
  MNEME_ORIGINAL_CONST(
      "12Notification30WaitForNotificationWithTimeoutENS0_8DurationE", bool,
      const Notification*, Duration);
  const bool notified = original(this, timeout);
  if (notified) __tsan_acquire(Address(this));
  return notified;
}

ABSL_NAMESPACE_END
}  // namespace absl
