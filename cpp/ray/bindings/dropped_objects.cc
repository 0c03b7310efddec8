#include "ray/bindings/dropped_objects.h"

#include <atomic>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace ray::bindings {
namespace {

struct Dropped {
  absl::Mutex mutex;
  std::vector<PyObject*> objects ABSL_GUARDED_BY(mutex);
  std::atomic<bool> some{false};
};

Dropped& TheDropped() {
  static auto* dropped = new Dropped;
  return *dropped;
}

}  // namespace

std::shared_ptr<void> KeepObject(const pybind11::object& object) {
  PyObject* kept = object.ptr();
  Py_INCREF(kept);
  return std::shared_ptr<void>(kept, [](void* pointer) {
    Dropped& dropped = TheDropped();
    absl::MutexLock lock(&dropped.mutex);
    dropped.objects.push_back(static_cast<PyObject*>(pointer));
    dropped.some.store(true);
  });
}

void ReleaseDroppedObjects() {
  Dropped& dropped = TheDropped();
  if (!dropped.some.load(std::memory_order_relaxed)) return;
  std::vector<PyObject*> objects;
  {
    absl::MutexLock lock(&dropped.mutex);
    objects.swap(dropped.objects);
    dropped.some.store(false);
  }
  for (PyObject* object : objects) Py_DECREF(object);
}

}  // namespace ray::bindings
