#include "ray/bindings/object_ref.h"

#include <cstring>
#include <string>
#include <string_view>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "ray/bindings/errors.h"
#include "ray/bindings/python_state.h"

namespace ray::bindings {
namespace {

PyTypeObject* object_ref_type = nullptr;
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

ObjectRef* FromBinary(const py::bytes& binary) {
  auto id = ValueOrRaise(base::ObjectId::FromBinary(std::string_view(binary)));
  return new ObjectRef(id, nullptr, nullptr);
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
  return py::cast(new ObjectRef(id, std::move(owner), session),
                  py::return_value_policy::take_ownership);
}

bool IsObjectRef(PyObject* object) { return Py_TYPE(object) == object_ref_type; }

ObjectRef& AsObjectRef(PyObject* object) {
  // The holder's value pointer, without pybind11's type search: the type is final and exact.
  auto* instance = reinterpret_cast<py::detail::instance*>(object);
  return *static_cast<ObjectRef*>(instance->simple_value_holder[0]);
}

void RegisterObjectRef(py::module_& module) {
  py::class_<ObjectRef> type(
      module, "ObjectRef", py::is_final(),
      "A reference to an object that exists or will exist. ray.get gives its "
      "value; await does in asyncio.");
  type.def(py::init(&FromBinary), py::arg("binary"))
      .def("binary", [](const ObjectRef& self) { return py::bytes(self.id().BinaryString()); })
      .def("hex", [](const ObjectRef& self) { return self.id().Hex(); })
      .def("is_nil", [](const ObjectRef& self) { return self.id().IsNil(); })
      .def("owner_address", [](const ObjectRef& self) { return OwnerBytes(self); })
      .def("task_id",
           [](const ObjectRef& self) {
             return MakeId("TaskID", base::TaskOf(self.id()).BinaryString());
           })
      .def("job_id",
           [](const ObjectRef& self) {
             auto job = base::JobOf(base::ActorOf(base::TaskOf(self.id())));
             return MakeId("JobID", job.BinaryString());
           })
      .def_static("from_binary", &FromBinary, py::arg("id_bytes"))
      .def_static(
          "from_hex",
          [](const std::string& text) {
            std::string bytes = absl::HexStringToBytes(text);
            if (absl::BytesToHexString(bytes) != text) {
              throw py::value_error(absl::StrCat("'", text, "' is no hex form of an ObjectRef"));
            }
            return FromBinary(py::bytes(bytes));
          },
          py::arg("hex_id"))
      .def_static("from_random",
                  [] { return new ObjectRef(base::ObjectId::Random(), nullptr, nullptr); })
      .def_static("nil", [] { return new ObjectRef(base::ObjectId::Nil(), nullptr, nullptr); })
      .def_static("size", [] { return base::ObjectId::kSize; })
      // The same in every process, unlike __hash__.
      .def("redis_shard_hash",
           [](const ObjectRef& self) {
             uint64_t first = 0;
             std::memcpy(&first, self.id().BinaryString().data(), sizeof first);
             return first;
           })
      .def("__eq__",
           [](const ObjectRef& self, const py::object& other) {
             return IsObjectRef(other.ptr()) && AsObjectRef(other.ptr()).id() == self.id();
           })
      .def("__hash__", [](const ObjectRef& self) { return absl::HashOf(self.id()); })
      .def("__repr__",
           [](const ObjectRef& self) { return absl::StrCat("ObjectRef(", self.id().Hex(), ")"); })
      .def("__reduce__", [](const py::object& self) {
        if (collector != nullptr) collector->references.push_back(self);
        return Reduce(self);
      });
  type.attr("__class_getitem__") =
      py::module_::import("builtins")
          .attr("classmethod")(
              py::cpp_function([](const py::object& cls, const py::object&) { return cls; }));
  object_ref_type = reinterpret_cast<PyTypeObject*>(type.ptr());
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
