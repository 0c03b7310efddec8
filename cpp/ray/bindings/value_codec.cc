#include "ray/bindings/value_codec.h"

#include <cstring>
#include <string>
#include <utility>

#include "ray/bindings/errors.h"
#include "ray/bindings/plain_pickle.h"
#include "ray/bindings/python_state.h"

namespace ray::bindings {
namespace {

using core::ValueKind;

constexpr int kPlainDepthMax = 8;

// A part of a serialized value as a Python buffer: read-only, and keeping the whole value where it
// is.
struct ValueBuffer {
  core::ArgumentBytes whole;
  std::string_view part;
};

bool IsPlainArray(PyObject* object) {
  PyObject*& type = State().ndarray_type;
  if (type == nullptr) {
    if (std::strcmp(Py_TYPE(object)->tp_name, "numpy.ndarray") != 0) return false;
    type = reinterpret_cast<PyObject*>(Py_TYPE(object));
    Py_INCREF(type);
  }
  if (reinterpret_cast<PyObject*>(Py_TYPE(object)) != type) return false;
  auto array = py::reinterpret_borrow<py::object>(object);
  return !array.attr("dtype").attr("hasobject").cast<bool>();
}

// Whether the C pickler writes the value as the full pickler would: exact built-in types all the
// way down.
bool IsPlain(PyObject* object, int depth) {
  if (object == Py_None || PyBool_Check(object) || PyLong_CheckExact(object) ||
      PyFloat_CheckExact(object) || PyUnicode_CheckExact(object) || PyBytes_CheckExact(object)) {
    return true;
  }
  if (IsObjectRef(object)) return true;
  if (depth == 0) return false;
  if (PyList_CheckExact(object)) {
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(object); ++i) {
      if (!IsPlain(PyList_GET_ITEM(object, i), depth - 1)) return false;
    }
    return true;
  }
  if (PyTuple_CheckExact(object)) {
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(object); ++i) {
      if (!IsPlain(PyTuple_GET_ITEM(object, i), depth - 1)) return false;
    }
    return true;
  }
  if (PyDict_CheckExact(object)) {
    PyObject *key, *value;
    Py_ssize_t position = 0;
    while (PyDict_Next(object, &position, &key, &value)) {
      if (!IsPlain(key, depth - 1) || !IsPlain(value, depth - 1)) return false;
    }
    return true;
  }
  return IsPlainArray(object);
}

bool MayHaveBuffers(PyObject* object) {
  // Only arrays make out-of-band buffers among plain values; scalars are the common case.
  return !(object == Py_None || PyBool_Check(object) || PyLong_CheckExact(object) ||
           PyFloat_CheckExact(object) || PyUnicode_CheckExact(object));
}

py::memoryview ReadOnlyView(std::string_view bytes) {
  return py::memoryview::from_memory(bytes.data(), static_cast<py::ssize_t>(bytes.size()));
}

py::object Unpickle(const core::ArgumentBytes& whole, const core::ParsedValue& value) {
  if (value.kind == ValueKind::kRawBytes)
    return py::bytes(value.pickle.data(), value.pickle.size());
  py::memoryview pickle = ReadOnlyView(value.pickle);
  if (value.buffers.empty()) {
    PyObject* loaded = PyObject_CallOneArg(State().pickle_loads.ptr(), pickle.ptr());
    if (loaded != nullptr) return py::reinterpret_steal<py::object>(loaded);
    PyErr_Clear();  // once more where the failure is turned into the public exception
    return State().hooks.attr("loads")(pickle, py::list());
  }
  py::list buffers;
  for (std::string_view part : value.buffers) {
    buffers.append(py::memoryview(py::cast(ValueBuffer{whole, part})));
  }
  return State().hooks.attr("loads")(pickle, buffers);
}

// The exception that a stored error value stands for, as its task left it.
py::object ErrorOf(const core::ArgumentBytes& whole, const core::ParsedValue& value) {
  if (value.kind == ValueKind::kError) return Unpickle(whole, value);
  if (value.kind == ValueKind::kSystemError) {
    return MakeSystemError(ValueOrRaise(core::ParseSystemError(value.pickle)));
  }
  auto dependency = ValueOrRaise(core::ParseDependencyError(value.pickle));
  return State().hooks.attr("dependency_error")(dependency.task_name,
                                                DecodeError(dependency.cause));
}

}  // namespace

EncodedValue::EncodedValue(const py::object& value) {
  if (PyBytes_CheckExact(value.ptr())) {
    kind_ = ValueKind::kRawBytes;
    pickle_owner_ = value;
    pickle_ = {PyBytes_AS_STRING(value.ptr()), static_cast<size_t>(PyBytes_GET_SIZE(value.ptr()))};
    return;
  }
  Pickle(value);
}

EncodedValue::EncodedValue(const py::object& value, ValueKind kind) : kind_(kind) { Pickle(value); }

EncodedValue EncodedValue::Error(const py::object& exception) {
  return EncodedValue(exception, ValueKind::kError);
}

EncodedValue::~EncodedValue() {
  for (Py_buffer& buffer : buffers_) PyBuffer_Release(&buffer);
}

void EncodedValue::Pickle(const py::object& value) {
  if (WritePlainPickle(value.ptr(), &written_)) {
    pickle_ = written_;
    return;
  }
  CollectingScope collecting(&references_);
  PythonState& state = State();
  if (!MayHaveBuffers(value.ptr())) {
    pickle_owner_ = state.pickle_dumps(value, 5);
  } else {
    py::list buffers;
    py::object collect = buffers.attr("append");
    if (IsPlain(value.ptr(), kPlainDepthMax)) {
      pickle_owner_ = state.pickle_dumps(value, 5, py::arg("buffer_callback") = collect);
    } else {
      pickle_owner_ = state.hooks.attr("dumps")(value, collect);
    }
    TakeBuffers(buffers);
  }
  pickle_ = {PyBytes_AS_STRING(pickle_owner_.ptr()),
             static_cast<size_t>(PyBytes_GET_SIZE(pickle_owner_.ptr()))};
}

void EncodedValue::TakeBuffers(const py::list& pickle_buffers) {
  buffers_.reserve(pickle_buffers.size());
  for (py::handle buffer : pickle_buffers) {
    Py_buffer view;
    // Pickle buffers are contiguous in C or Fortran order; the bytes travel as they lie.
    if (PyObject_GetBuffer(buffer.ptr(), &view, PyBUF_ANY_CONTIGUOUS) != 0) {
      throw py::error_already_set();
    }
    buffers_.push_back(view);
    buffer_views_.emplace_back(static_cast<const char*>(view.buf), static_cast<size_t>(view.len));
  }
}

py::object DecodeValue(const core::ArgumentBytes& bytes, py::object* error) {
  core::ParsedValue value = ValueOrRaise(core::ParseValue(bytes.view()));
  if (!core::IsError(value.kind)) return Unpickle(bytes, value);
  *error = ErrorOf(bytes, value);
  return py::object();
}

py::object DecodeValue(const core::ArgumentBytes& bytes) {
  py::object error;
  py::object value = DecodeValue(bytes, &error);
  if (error) RaisePython(State().hooks.attr("to_raise")(error));
  return value;
}

py::object DecodeError(std::string_view bytes) {
  core::ArgumentBytes whole{core::Buffer::Copy(bytes), nullptr};
  core::ParsedValue value = ValueOrRaise(core::ParseValue(whole.view()));
  return ErrorOf(whole, value);
}

void RegisterValueCodec(py::module_& module) {
  py::class_<ValueBuffer>(module, "_ValueBuffer", py::buffer_protocol())
      .def_buffer([](ValueBuffer& self) {
        return py::buffer_info(
            const_cast<char*>(self.part.data()), 1, py::format_descriptor<uint8_t>::format(), 1,
            {static_cast<py::ssize_t>(self.part.size())}, {1}, /*readonly=*/true);
      });
}

}  // namespace ray::bindings
