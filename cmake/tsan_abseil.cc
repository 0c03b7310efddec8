// Tells ThreadSanitizer about Abseil's locks; linked in builds with MANTA_SANITIZE=thread only.
//
// The distribution's Abseil is not instrumented, so ThreadSanitizer does not see that absl::Mutex
// and absl::CondVar order accesses and reports a race for everything they guard. The linker's
// --wrap redirects our calls to the functions below, which add the ordering: what happened before
// a release of an address happens before a later acquire of it. cmake/MantaLayer.cmake reads the
// wrapped symbols from the MANTA_WRAP lines of this file.
#include <sanitizer/tsan_interface.h>

#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"

namespace {

// Inline functions of Notification read its atomic, instrumented: order on each of its words.
template <typename T>
void ReleaseWords(T* object) {
  for (size_t offset = 0; offset < sizeof(T); offset += sizeof(void*)) {
    __tsan_release(reinterpret_cast<char*>(object) + offset);
  }
}

}  // namespace

// BEFORE and AFTER see the receiver as `self` and the other arguments as `a`, `b`.
#define MANTA_WRAP(SYMBOL, RESULT, PARAMETERS, ARGUMENTS, BEFORE, AFTER) \
  extern "C" RESULT __real_##SYMBOL PARAMETERS;                          \
  extern "C" RESULT __wrap_##SYMBOL PARAMETERS {                         \
    BEFORE;                                                              \
    RESULT result = __real_##SYMBOL ARGUMENTS;                           \
    AFTER;                                                               \
    return result;                                                       \
  }
#define MANTA_WRAP_VOID(SYMBOL, PARAMETERS, ARGUMENTS, BEFORE, AFTER) \
  extern "C" void __real_##SYMBOL PARAMETERS;                         \
  extern "C" void __wrap_##SYMBOL PARAMETERS {                        \
    BEFORE;                                                           \
    __real_##SYMBOL ARGUMENTS;                                        \
    AFTER;                                                            \
  }
#define MANTA_ACQUIRE __tsan_acquire(self)
#define MANTA_RELEASE __tsan_release(self)
#define MANTA_NOTHING (void)0

using absl::Condition;
using absl::CondVar;
using absl::Duration;
using absl::Mutex;
using absl::Notification;
using absl::Time;

// clang-format off
MANTA_WRAP_VOID(_ZN4absl7debian35Mutex4LockEv, (Mutex* self), (self), MANTA_NOTHING, MANTA_ACQUIRE)
MANTA_WRAP_VOID(_ZN4absl7debian35Mutex6UnlockEv, (Mutex* self), (self), MANTA_RELEASE, MANTA_NOTHING)
MANTA_WRAP(_ZN4absl7debian35Mutex7TryLockEv, bool, (Mutex* self), (self), MANTA_NOTHING, MANTA_ACQUIRE)
MANTA_WRAP_VOID(_ZN4absl7debian35Mutex10ReaderLockEv, (Mutex* self), (self), MANTA_NOTHING, MANTA_ACQUIRE)
MANTA_WRAP_VOID(_ZN4absl7debian35Mutex12ReaderUnlockEv, (Mutex* self), (self), MANTA_RELEASE, MANTA_NOTHING)
MANTA_WRAP(_ZN4absl7debian35Mutex13ReaderTryLockEv, bool, (Mutex* self), (self), MANTA_NOTHING, MANTA_ACQUIRE)
MANTA_WRAP_VOID(_ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE, (Mutex* self, const Condition& a), (self, a), MANTA_RELEASE, MANTA_ACQUIRE)
MANTA_WRAP(_ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE, bool, (Mutex* self, const Condition& a, Duration b), (self, a, b), MANTA_RELEASE, MANTA_ACQUIRE)
MANTA_WRAP(_ZN4absl7debian35Mutex17AwaitWithDeadlineERKNS0_9ConditionENS0_4TimeE, bool, (Mutex* self, const Condition& a, Time b), (self, a, b), MANTA_RELEASE, MANTA_ACQUIRE)
MANTA_WRAP_VOID(_ZN4absl7debian35Mutex8LockWhenERKNS0_9ConditionE, (Mutex* self, const Condition& a), (self, a), MANTA_NOTHING, MANTA_ACQUIRE)
MANTA_WRAP(_ZN4absl7debian35Mutex19LockWhenWithTimeoutERKNS0_9ConditionENS0_8DurationE, bool, (Mutex* self, const Condition& a, Duration b), (self, a, b), MANTA_NOTHING, MANTA_ACQUIRE)
MANTA_WRAP(_ZN4absl7debian35Mutex20LockWhenWithDeadlineERKNS0_9ConditionENS0_4TimeE, bool, (Mutex* self, const Condition& a, Time b), (self, a, b), MANTA_NOTHING, MANTA_ACQUIRE)
MANTA_WRAP_VOID(_ZN4absl7debian37CondVar4WaitEPNS0_5MutexE, (CondVar* cv, Mutex* self), (cv, self), MANTA_RELEASE, MANTA_ACQUIRE)
MANTA_WRAP(_ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE, bool, (CondVar* cv, Mutex* self, Duration a), (cv, self, a), MANTA_RELEASE, MANTA_ACQUIRE)
MANTA_WRAP(_ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE, bool, (CondVar* cv, Mutex* self, Time a), (cv, self, a), MANTA_RELEASE, MANTA_ACQUIRE)
MANTA_WRAP_VOID(_ZN4absl7debian312Notification6NotifyEv, (Notification* self), (self), ReleaseWords(self), MANTA_NOTHING)
MANTA_WRAP_VOID(_ZNK4absl7debian312Notification19WaitForNotificationEv, (Notification* self), (self), MANTA_NOTHING, MANTA_ACQUIRE)
MANTA_WRAP(_ZNK4absl7debian312Notification30WaitForNotificationWithTimeoutENS0_8DurationE, bool, (Notification* self, Duration a), (self, a), MANTA_NOTHING, MANTA_ACQUIRE)
MANTA_WRAP(_ZNK4absl7debian312Notification31WaitForNotificationWithDeadlineENS0_4TimeE, bool, (Notification* self, Time a), (self, a), MANTA_NOTHING, MANTA_ACQUIRE)
// clang-format on
