// The executing side of generator tasks: items leave while the generator runs.
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/bindings/errors.h"
#include "ray/bindings/execution.h"
#include "ray/bindings/gil.h"
#include "ray/bindings/object_ref.h"
#include "ray/bindings/python_state.h"
#include "ray/core/stream_table.h"

namespace ray::bindings {

using core::IncomingCallPtr;

namespace {

// As if the function had raised it.
[[noreturn]] void Refuse(PyObject* type, const std::string& message) {
  PyErr_SetString(type, message.c_str());
  throw py::error_already_set();
}

}  // namespace

// An exception of the generator is the caller's to handle, as for any call: its owner makes one
// more item of it.
void Execution::RunStream(const IncomingCallPtr& call, const py::object& items) {
  if (PyIter_Check(items.ptr()) == 0) {
    Refuse(PyExc_TypeError, absl::StrCat(call->task_template->name,
                                         " has num_returns=\"streaming\" or \"dynamic\" and must "
                                         "return a generator, but returned a ",
                                         Py_TYPE(items.ptr())->tp_name));
  }
  uint64_t sent = 0;
  while (true) {
    {
      SignalCheck interrupted;
      GilRelease release;
      session_->WaitForStreamRoom(call, sent, interrupted);
    }
    if (PyErr_Occurred() != nullptr) throw py::error_already_set();
    auto item = py::reinterpret_steal<py::object>(PyIter_Next(items.ptr()));
    if (!item) break;
    SendYield(call, &sent, item);
  }
  if (PyErr_Occurred() != nullptr) {
    py::error_already_set failure;
    const core::ReceivedTemplate& of = *call->task_template;
    if (of.num_returns == core::kStreamingReturns || of.retry_exceptions || call->cancelled) {
      throw failure;
    }
    // Return 1 of a dynamic one holds what there is; the error is the last of it.
    py::object error = State().hooks.attr("task_error")(ExceptionOf(failure), of.name, py::none());
    session_->SendStreamItem(call, sent++, MakeError(error));
  }
  EndStream(call, sent);
}

void Execution::SendYield(const IncomingCallPtr& call, uint64_t* sent, const py::object& yielded) {
  const core::ReceivedTemplate& of = *call->task_template;
  const size_t count = of.objects_per_yield;
  if (count == 0 || of.num_returns != core::kStreamingReturns) {
    return SendItem(call, (*sent)++, yielded);
  }
  if (!PyTuple_Check(yielded.ptr()) && !PyList_Check(yielded.ptr())) {
    Refuse(PyExc_ValueError, absl::StrCat(of.name, " has _num_objects_per_yield=", count,
                                          " and must yield a tuple or list of length ", count,
                                          ", but yielded a ", Py_TYPE(yielded.ptr())->tp_name));
  }
  const auto objects = py::reinterpret_steal<py::tuple>(PySequence_Tuple(yielded.ptr()));
  if (objects.size() != count) {
    Refuse(PyExc_ValueError, absl::StrCat(of.name, " yielded ", objects.size(),
                                          " objects, but has _num_objects_per_yield=", count));
  }
  for (py::handle object : objects) {
    SendItem(call, (*sent)++, py::reinterpret_borrow<py::object>(object));
  }
}

void Execution::SendItem(const IncomingCallPtr& call, uint64_t index, const py::object& item) {
  // Item k is return k + 2: see core/stream_table.h.
  core::ResultValue result = MakeResult(call, index + 1, item);
  session_->SendStreamItem(call, index, std::move(result));
}

// Return 1: None, or for num_returns="dynamic" the references of all items.
void Execution::EndStream(const IncomingCallPtr& call, uint64_t count) {
  if (call->task_template->num_returns == core::kStreamingReturns) {
    return ReplyValue(call, py::none());
  }
  py::list refs;
  for (uint64_t i = 0; i < count; ++i) {
    base::ObjectId id = core::StreamItemId(call->task_id, i);
    session_->AddLocalReference(id, call->caller->address);
    refs.append(WrapReference(session_, id, call->caller->address));
  }
  ReplyValue(call, State().hooks.attr("dynamic_generator")(refs));
}

}  // namespace ray::bindings
