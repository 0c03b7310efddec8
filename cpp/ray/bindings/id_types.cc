#include "ray/bindings/id_types.h"

#include <string>
#include <string_view>

#include "absl/hash/hash.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "ray/base/ids.h"

namespace ray::bindings {
namespace {

namespace py = pybind11;

// One Python class for all ids; subclasses differ in name and SIZE.
class BaseId {
 public:
  explicit BaseId(std::string binary) : binary_(std::move(binary)) {}
  const std::string& binary() const { return binary_; }
  bool is_nil() const { return binary_.find_first_not_of('\xff') == std::string::npos; }

 private:
  std::string binary_;
};

template <typename Type>
void Register(py::module_& module, const char* name, size_t size) {
  py::class_<Type, BaseId> type(module, name);
  type.def(py::init([size, name](const py::bytes& binary) {
             std::string bytes(binary);
             if (bytes.size() != size) {
               throw py::value_error(
                   absl::StrCat(name, " takes ", size, " bytes, not ", bytes.size()));
             }
             return Type(std::move(bytes));
           }),
           py::arg("binary"))
      .def_static(
          "from_hex",
          [type, name](const std::string& text) {
            std::string bytes = absl::HexStringToBytes(text);
            if (absl::BytesToHexString(bytes) != text) {
              throw py::value_error(absl::StrCat("'", text, "' is no hex form of a ", name));
            }
            return type(py::bytes(bytes));
          })
      .def_static("from_random",
                  [type, size] {
                    std::string bytes(size, '\0');
                    base::FillUniqueBytes(reinterpret_cast<uint8_t*>(bytes.data()), size);
                    return type(py::bytes(bytes));
                  })
      .def_static("nil", [type, size] { return type(py::bytes(std::string(size, '\xff'))); })
      .def("__repr__",
           [name](const Type& self) {
             return absl::StrCat(name, "(", absl::BytesToHexString(self.binary()), ")");
           })
      .def("__eq__",
           [](const Type& self, const py::object& other) {
             return py::isinstance<Type>(other) &&
                    other.cast<const Type&>().binary() == self.binary();
           })
      .def("__hash__", [](const Type& self) { return absl::HashOf(self.binary()); })
      .def("__reduce__", [type](const Type& self) {
        return py::make_tuple(type, py::make_tuple(py::bytes(self.binary())));
      });
  type.attr("SIZE") = size;
}

struct JobTag : BaseId {
  using BaseId::BaseId;
};
struct ActorTag : BaseId {
  using BaseId::BaseId;
};
struct TaskTag : BaseId {
  using BaseId::BaseId;
};
struct NodeTag : BaseId {
  using BaseId::BaseId;
};
struct WorkerTag : BaseId {
  using BaseId::BaseId;
};
struct PlacementGroupTag : BaseId {
  using BaseId::BaseId;
};
struct UniqueTag : BaseId {
  using BaseId::BaseId;
};

}  // namespace

void RegisterIdTypes(py::module_& module) {
  py::class_<BaseId>(module, "BaseID")
      .def("binary", [](const BaseId& self) { return py::bytes(self.binary()); })
      .def("hex", [](const BaseId& self) { return absl::BytesToHexString(self.binary()); })
      .def("is_nil", &BaseId::is_nil);
  Register<JobTag>(module, "JobID", base::JobId::kSize);
  Register<ActorTag>(module, "ActorID", base::ActorId::kSize);
  Register<TaskTag>(module, "TaskID", base::TaskId::kSize);
  Register<NodeTag>(module, "NodeID", base::NodeId::kSize);
  Register<WorkerTag>(module, "WorkerID", base::WorkerId::kSize);
  constexpr size_t kPlacementGroupIdBytes = 18;
  Register<PlacementGroupTag>(module, "PlacementGroupID", kPlacementGroupIdBytes);
  constexpr size_t kUniqueIdBytes = 28;
  Register<UniqueTag>(module, "UniqueID", kUniqueIdBytes);
}

}  // namespace ray::bindings
