// ObjectRef: one local reference to an object, for as long as the Python object lives.
//
// Its Python type is made by hand, not by py::class_: a program has as many references as calls,
// and what pybind11 does for each instance (an allocation of its own, two entries of a global map)
// costs more than all the rest of a reference. Threads: created and destroyed with the GIL; the end
// only pushes to the release queue.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>
#include <vector>

#include "ray/base/ids.h"
#include "ray/core/core_worker.h"

namespace ray::bindings {

namespace py = pybind11;

class ObjectRef {
 public:
  // Takes over a local reference that `session` already counts; null: a bare id.
  ObjectRef(const base::ObjectId& id, core::AddressPtr owner,
            std::shared_ptr<core::CoreWorker> session)
      : held_{id}, owner_(std::move(owner)), session_(std::move(session)) {}
  ~ObjectRef() {
    if (session_ != nullptr) session_->ReleaseLater(core::ReleaseQueue::Kind::kReference, held_.id);
  }
  ObjectRef(const ObjectRef&) = delete;
  ObjectRef& operator=(const ObjectRef&) = delete;

  const base::ObjectId& id() const { return held_.id; }
  core::HeldReference* held() { return &held_; }
  // Null: this process, or unknown (a bare id).
  const core::AddressPtr& owner() const { return owner_; }
  const std::shared_ptr<core::CoreWorker>& session() const { return session_; }

 private:
  core::HeldReference held_;
  const core::AddressPtr owner_;
  const std::shared_ptr<core::CoreWorker> session_;
};

void RegisterObjectRef(py::module_& module);

// A new ObjectRef that takes over a local reference.
py::object WrapReference(const std::shared_ptr<core::CoreWorker>& session, const base::ObjectId& id,
                         core::AddressPtr owner);

// The Python object. Its type is final: a reference is of exactly this type.
struct ObjectRefInstance {
  PyObject_HEAD;
  PyObject* weak_references;
  ObjectRef ref;
};
extern PyTypeObject* object_ref_type;  // once registered
inline bool IsObjectRef(PyObject* object) { return Py_TYPE(object) == object_ref_type; }
// Requires IsObjectRef.
inline ObjectRef& AsObjectRef(PyObject* object) {
  return reinterpret_cast<ObjectRefInstance*>(object)->ref;
}

// References met while pickling.
struct CollectedReferences {
  std::vector<py::object> references;
  std::vector<core::ContainedObject> Contained() const;
};

// While it lives, references that this thread pickles go to `into`. Scopes nest.
class CollectingScope {
 public:
  explicit CollectingScope(CollectedReferences* into);
  ~CollectingScope();
  CollectingScope(const CollectingScope&) = delete;
  CollectingScope& operator=(const CollectingScope&) = delete;

 private:
  CollectedReferences* const outer_;
};

}  // namespace ray::bindings
