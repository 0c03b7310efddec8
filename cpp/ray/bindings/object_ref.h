// ObjectRef: one local reference to an object, for as long as the Python object lives.
// Threads: created and destroyed with the GIL; the end only pushes to the release queue.
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
      : id_(id), owner_(std::move(owner)), session_(std::move(session)) {}
  ~ObjectRef() {
    if (session_ != nullptr) session_->ReleaseLater(core::ReleaseQueue::Kind::kReference, id_);
  }
  ObjectRef(const ObjectRef&) = delete;
  ObjectRef& operator=(const ObjectRef&) = delete;

  const base::ObjectId& id() const { return id_; }
  // Null: this process, or unknown (a bare id).
  const core::AddressPtr& owner() const { return owner_; }
  const std::shared_ptr<core::CoreWorker>& session() const { return session_; }

 private:
  const base::ObjectId id_;
  const core::AddressPtr owner_;
  const std::shared_ptr<core::CoreWorker> session_;
};

void RegisterObjectRef(py::module_& module);

// A new ObjectRef that takes over a local reference.
py::object WrapReference(const std::shared_ptr<core::CoreWorker>& session, const base::ObjectId& id,
                         core::AddressPtr owner);
bool IsObjectRef(PyObject* object);
// Requires IsObjectRef.
ObjectRef& AsObjectRef(PyObject* object);

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
