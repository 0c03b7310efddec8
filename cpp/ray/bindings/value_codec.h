// Python values to serialized values and back. Values that the C pickler handles alone (numbers,
// strings, bytes, None, numpy arrays, references, and plain containers of these) never leave C; the
// others go through the hooks. Threads: with the GIL.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <string_view>
#include <vector>

#include "ray/bindings/object_ref.h"
#include "ray/core/serialized_value.h"
#include "ray/core/task_receiver.h"

namespace ray::bindings {

namespace py = pybind11;

// A pickled value, not yet in one piece: views into Python objects that it keeps alive.
class EncodedValue {
 public:
  // Raises TypeError for what cannot be serialized.
  explicit EncodedValue(const py::object& value);
  // An exception, to be raised by get.
  static EncodedValue Error(const py::object& exception);

  core::ValueParts parts() const { return {kind_, pickle_, buffer_views_}; }
  size_t size() const { return core::SerializedSize(parts()); }
  const CollectedReferences& references() const { return references_; }
  EncodedValue(const EncodedValue&) = delete;
  EncodedValue& operator=(const EncodedValue&) = delete;
  ~EncodedValue();

 private:
  EncodedValue(const py::object& value, core::ValueKind kind);
  void Pickle(const py::object& value);
  void TakeBuffers(const py::list& pickle_buffers);

  core::ValueKind kind_ = core::ValueKind::kPickle;
  CollectedReferences references_;
  py::object pickle_owner_;
  std::string written_;  // or this one, where the pickler was not needed
  std::string_view pickle_;
  std::vector<Py_buffer> buffers_;
  std::vector<std::string_view> buffer_views_;
};

// The value behind `bytes`; buffers of it keep the bytes in place. Raises if it is an error, or
// does not unpickle.
py::object DecodeValue(const core::ArgumentBytes& bytes);
// The same, but an error value is returned as an exception object in `*error`, and the result is
// empty.
py::object DecodeValue(const core::ArgumentBytes& bytes, py::object* error);
// The exception inside a serialized error value, as stored (not yet Hooks.to_raise).
py::object DecodeError(std::string_view bytes);

void RegisterValueCodec(py::module_& module);

}  // namespace ray::bindings
