// The Python module `_raylet`. Types: python/ray/_raylet.pyi.
#include <pybind11/pybind11.h>

#include "ray/base/lock_order.h"
#include "ray/bindings/call_arguments.h"
#include "ray/bindings/core_object.h"
#include "ray/bindings/errors.h"
#include "ray/bindings/execution.h"
#include "ray/bindings/object_ref.h"
#include "ray/bindings/object_stream.h"
#include "ray/bindings/python_state.h"
#include "ray/bindings/value_codec.h"
#include "ray/net/frame.h"

namespace ray::bindings {

PythonState& State() {
  static auto* state = new PythonState;
  return *state;
}

}  // namespace ray::bindings

PYBIND11_MODULE(_raylet, module) {
  namespace py = pybind11;
  using ray::bindings::State;
  ray::base::StopCheckingLockOrder();
  module.attr("PROTOCOL_VERSION") = ray::net::kProtocolVersion;
  module.attr("NODE_BINARY_NAMES") = py::make_tuple("raylet", "gcs_server");
  py::module_ pickle = py::module_::import("_pickle");
  State().pickle_dumps = pickle.attr("dumps");
  State().pickle_loads = pickle.attr("loads");
  ray::bindings::RegisterErrors(module);
  ray::bindings::RegisterObjectRef(module);
  ray::bindings::RegisterObjectStream(module);
  ray::bindings::RegisterValueCodec(module);
  ray::bindings::RegisterTaskTemplate(module);
  ray::bindings::RegisterExecution(module);
  ray::bindings::RegisterCore(module);
  module.def(
      "set_hooks", [](const py::object& hooks) { State().hooks = hooks; }, py::arg("hooks"));
}
