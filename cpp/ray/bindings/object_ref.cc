#include "ray/bindings/object_ref.h"

#include <structmember.h>

#include <cstddef>
#include <cstring>
#include <new>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "ray/bindings/errors.h"
#include "ray/bindings/python_state.h"

namespace ray::bindings {

PyTypeObject* object_ref_type = nullptr;

namespace {

using Instance = ObjectRefInstance;

PyObject* rebuild_function = nullptr;
thread_local CollectedReferences* collector = nullptr;

// The serialized owner addresses as Python bytes: one object each, which the pickler's memo then
// writes once.
py::bytes OwnerBytes(const ObjectRef& ref) {
  const core::AddressPtr& owner = ref.owner() != nullptr || ref.session() == nullptr
                                      ? ref.owner()
                                      : ref.session()->self_address();
  if (owner == nullptr) return py::bytes();
  static auto* last = new std::pair<core::AddressPtr, py::bytes>();
  if (last->first != owner) *last = {owner, py::bytes(owner->serialized)};
  return last->second;
}

core::AddressPtr ParseOwner(std::string_view serialized) {
  if (serialized.empty()) return nullptr;
  static auto* last = new core::AddressPtr();
  if (*last != nullptr && (*last)->serialized == serialized) return *last;
  *last = ValueOrRaise(core::WorkerAddress::Parse(serialized));
  return *last;
}

py::object Rebuild(std::string_view binary, std::string_view owner_address) {
  base::ObjectId id = ValueOrRaise(base::ObjectId::FromBinary(binary));
  core::AddressPtr owner = ParseOwner(owner_address);
  const std::shared_ptr<core::CoreWorker>& session = State().current;
  if (session == nullptr || owner == nullptr) return WrapReference(nullptr, id, owner);
  session->AddLocalReference(id, owner);
  return WrapReference(session, id, std::move(owner));
}

// rebuild_object_ref(binary, owner_address) in the interpreter's own calling convention: values
// with thousands of references spend their time here.
PyObject* RebuildFastcall(PyObject*, PyObject* const* args, Py_ssize_t count) {
  if (count != 2 || !PyBytes_Check(args[0]) || !PyBytes_Check(args[1])) {
    PyErr_SetString(PyExc_TypeError, "rebuild_object_ref takes two bytes objects");
    return nullptr;
  }
  auto view = [](PyObject* bytes) {
    return std::string_view(PyBytes_AS_STRING(bytes), static_cast<size_t>(PyBytes_GET_SIZE(bytes)));
  };
  try {
    return Rebuild(view(args[0]), view(args[1])).release().ptr();
  } catch (py::error_already_set& failure) {
    failure.restore();
    return nullptr;
  }
}

PyMethodDef rebuild_method = {
    "rebuild_object_ref",
    reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(RebuildFastcall)), METH_FASTCALL,
    "What a pickled ObjectRef becomes: registers the borrow."};

py::object Reduce(const py::object& self) {
  ObjectRef& ref = AsObjectRef(self.ptr());
  if (collector == nullptr && ref.session() != nullptr) {
    // Pickled outside of a value, a task or a function: nobody can tell when the last copy of these
    // bytes is gone, so the object stays for the rest of the session (as Ray documents for
    // out-of-band serialization).
    ref.session()->AddLocalReference(ref.id(), ref.owner());
  }
  py::tuple arguments = py::make_tuple(py::bytes(ref.id().BinaryString()), OwnerBytes(ref));
  return py::make_tuple(py::reinterpret_borrow<py::object>(rebuild_function), arguments);
}

py::object FromBinary(const py::bytes& binary) {
  auto id = ValueOrRaise(base::ObjectId::FromBinary(std::string_view(binary)));
  return WrapReference(nullptr, id, nullptr);
}

py::object MakeId(const char* type, const std::string& binary) {
  return py::module_::import("ray._ids").attr(type)(py::bytes(binary));
}

}  // namespace

CollectingScope::CollectingScope(CollectedReferences* into) : outer_(collector) {
  collector = into;
}
CollectingScope::~CollectingScope() { collector = outer_; }

std::vector<core::ContainedObject> CollectedReferences::Contained() const {
  std::vector<core::ContainedObject> contained;
  contained.reserve(references.size());
  for (const py::object& reference : references) {
    ObjectRef& ref = AsObjectRef(reference.ptr());
    contained.push_back({ref.id(), ref.owner()});
  }
  return contained;
}

py::object WrapReference(const std::shared_ptr<core::CoreWorker>& session, const base::ObjectId& id,
                         core::AddressPtr owner) {
  auto* instance = PyObject_New(Instance, object_ref_type);
  if (instance == nullptr) {
    if (session != nullptr) session->ReleaseLater(core::ReleaseQueue::Kind::kReference, id);
    throw py::error_already_set();
  }
  instance->weak_references = nullptr;
  new (&instance->ref) ObjectRef(id, std::move(owner), session);
  return py::reinterpret_steal<py::object>(reinterpret_cast<PyObject*>(instance));
}

namespace {

void Deallocate(PyObject* self) {
  auto* instance = reinterpret_cast<Instance*>(self);
  if (instance->weak_references != nullptr) PyObject_ClearWeakRefs(self);
  PyTypeObject* type = Py_TYPE(self);
  instance->ref.~ObjectRef();
  PyObject_Free(self);
  Py_DECREF(type);
}

Py_hash_t Hash(PyObject* self) {
  const auto hash = static_cast<Py_hash_t>(absl::HashOf(AsObjectRef(self).id()));
  return hash == -1 ? -2 : hash;  // -1 means an error
}

PyObject* Compare(PyObject* self, PyObject* other, int operation) {
  if (!IsObjectRef(other) || (operation != Py_EQ && operation != Py_NE)) {
    Py_RETURN_NOTIMPLEMENTED;
  }
  const bool equal = AsObjectRef(self).id() == AsObjectRef(other).id();
  return PyBool_FromLong(equal == (operation == Py_EQ));
}

PyObject* Represent(PyObject* self) {
  const std::string text = absl::StrCat("ObjectRef(", AsObjectRef(self).id().Hex(), ")");
  return PyUnicode_FromStringAndSize(text.data(), static_cast<Py_ssize_t>(text.size()));
}

PyObject* New(PyTypeObject*, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"binary", nullptr};
  PyObject* binary = nullptr;
  if (PyArg_ParseTupleAndKeywords(args, kwargs, "S:ObjectRef", const_cast<char**>(names),
                                  &binary) == 0) {
    return nullptr;
  }
  try {
    return FromBinary(py::reinterpret_borrow<py::bytes>(binary)).release().ptr();
  } catch (py::error_already_set& failure) {
    failure.restore();
    return nullptr;
  }
}

constexpr const char* kDocstring =
    "A reference to an object that exists or will exist. ray.get gives its value; await does in "
    "asyncio.";

py::object MakeType() {
  static PyMemberDef members[] = {
      {"__weaklistoffset__", T_PYSSIZET, offsetof(Instance, weak_references), READONLY, nullptr},
      {nullptr, 0, 0, 0, nullptr}};
  static PyType_Slot slots[] = {{Py_tp_doc, const_cast<char*>(kDocstring)},
                                {Py_tp_new, reinterpret_cast<void*>(New)},
                                {Py_tp_dealloc, reinterpret_cast<void*>(Deallocate)},
                                {Py_tp_hash, reinterpret_cast<void*>(Hash)},
                                {Py_tp_richcompare, reinterpret_cast<void*>(Compare)},
                                {Py_tp_repr, reinterpret_cast<void*>(Represent)},
                                {Py_tp_members, members},
                                {0, nullptr}};
  // Not a base type: IsObjectRef compares types exactly.
  static PyType_Spec spec = {"ray._raylet.ObjectRef", sizeof(Instance), 0, Py_TPFLAGS_DEFAULT,
                             slots};
  PyObject* type = PyType_FromSpec(&spec);
  if (type == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(type);
}

template <typename Function>
void AddMethod(const py::object& type, const char* name, Function function) {
  type.attr(name) = py::cpp_function(function, py::name(name), py::is_method(type));
}

template <typename Function, typename... Extra>
void AddStatic(const py::object& type, const char* name, Function function, const Extra&... extra) {
  type.attr(name) = py::staticmethod(py::cpp_function(function, py::name(name), extra...));
}

py::object FromHex(const std::string& text) {
  std::string bytes = absl::HexStringToBytes(text);
  if (absl::BytesToHexString(bytes) != text) {
    throw py::value_error(absl::StrCat("'", text, "' is no hex form of an ObjectRef"));
  }
  return FromBinary(py::bytes(bytes));
}

void AddMethods(const py::object& type) {
  using Self = const py::object&;
  AddMethod(type, "binary",
            [](Self self) { return py::bytes(AsObjectRef(self.ptr()).id().BinaryString()); });
  AddMethod(type, "hex", [](Self self) { return AsObjectRef(self.ptr()).id().Hex(); });
  AddMethod(type, "is_nil", [](Self self) { return AsObjectRef(self.ptr()).id().IsNil(); });
  AddMethod(type, "owner_address", [](Self self) { return OwnerBytes(AsObjectRef(self.ptr())); });
  AddMethod(type, "task_id", [](Self self) {
    return MakeId("TaskID", base::TaskOf(AsObjectRef(self.ptr()).id()).BinaryString());
  });
  AddMethod(type, "job_id", [](Self self) {
    auto job = base::JobOf(base::ActorOf(base::TaskOf(AsObjectRef(self.ptr()).id())));
    return MakeId("JobID", job.BinaryString());
  });
  // The same in every process, unlike __hash__.
  AddMethod(type, "redis_shard_hash", [](Self self) {
    uint64_t first = 0;
    std::memcpy(&first, AsObjectRef(self.ptr()).id().data(), sizeof first);
    return first;
  });
  AddMethod(type, "__reduce__", [](Self self) {
    if (collector != nullptr) collector->references.push_back(self);
    return Reduce(self);
  });
  AddStatic(type, "from_binary", &FromBinary, py::arg("id_bytes"));
  AddStatic(type, "from_hex", &FromHex, py::arg("hex_id"));
  AddStatic(type, "from_random",
            [] { return WrapReference(nullptr, base::ObjectId::Random(), nullptr); });
  AddStatic(type, "nil", [] { return WrapReference(nullptr, base::ObjectId::Nil(), nullptr); });
  AddStatic(type, "size", [] { return base::ObjectId::kSize; });
  type.attr("__class_getitem__") =
      py::module_::import("builtins")
          .attr("classmethod")(
              py::cpp_function([](const py::object& cls, const py::object&) { return cls; }));
}

}  // namespace

void RegisterObjectRef(py::module_& module) {
  const py::object type = MakeType();
  AddMethods(type);
  module.attr("ObjectRef") = type;
  object_ref_type = reinterpret_cast<PyTypeObject*>(py::object(type).release().ptr());
  module.attr("rebuild_object_ref") = py::reinterpret_steal<py::object>(
      PyCFunction_NewEx(&rebuild_method, nullptr, module.attr("__name__").ptr()));
  rebuild_function = module.attr("rebuild_object_ref").cast<py::object>().release().ptr();
  // Python's way to a scope (functions and classes are pickled there): begin and end on one thread.
  struct OpenScope {
    CollectedReferences collected;
    CollectingScope scope{&collected};
  };
  static thread_local std::unique_ptr<OpenScope> open;
  module.def("begin_collecting_refs", [] { open = std::make_unique<OpenScope>(); });
  module.def("end_collecting_refs", [] {
    py::list references;
    if (open == nullptr) return references;
    for (const py::object& reference : open->collected.references) references.append(reference);
    open.reset();
    return references;
  });
}

}  // namespace ray::bindings
