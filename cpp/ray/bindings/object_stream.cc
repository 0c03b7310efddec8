#include "ray/bindings/object_stream.h"

#include <utility>
#include <vector>

#include "ray/bindings/gil.h"
#include "ray/bindings/object_ref.h"
#include "ray/bindings/waiting.h"

namespace ray::bindings {

using core::StreamTable;
using net::LoopDriver;

ObjectStream::ObjectStream(std::shared_ptr<core::CoreWorker> session, const base::TaskId& task)
    : session_(std::move(session)),
      task_(task),
      completed_(WrapReference(session_, base::ReturnObjectId(task, 1), nullptr)) {}

ObjectStream::~ObjectStream() {
  session_->ReleaseLater(core::ReleaseQueue::Kind::kStream, base::ReturnObjectId(task_, 1));
}

py::object ObjectStream::Next(const py::object& timeout) {
  int64_t deadline = DeadlineAfter(timeout);
  while (true) {
    py::object ref = Peek();
    core::HeldReference* const held = AsObjectRef(ref.ptr()).held();
    SignalCheck interrupted;
    std::vector<bool> ready;
    absl::StatusOr<LoopDriver::Outcome> outcome = LoopDriver::Outcome::kDone;
    {
      GilRelease release;
      outcome = session_->Wait({&held, 1}, 1, false, deadline, interrupted, &ready);
    }
    if (*outcome == LoopDriver::Outcome::kInterrupted) RaiseInterrupted(*session_);
    if (!ready[0]) return py::none();
    switch (session_->AdvanceStream(task_, held->id)) {
      case StreamTable::Step::kItem:
        return ref;
      case StreamTable::Step::kEnd:
        throw py::stop_iteration();
      case StreamTable::Step::kNotYet:
        break;  // another thread took it: the next one
    }
  }
}

py::object ObjectStream::Peek() {
  return WrapReference(session_, session_->PeekStream(task_), nullptr);
}

py::object ObjectStream::Advance(const py::object& peeked) {
  switch (session_->AdvanceStream(task_, AsObjectRef(peeked.ptr()).id())) {
    case StreamTable::Step::kItem:
      return py::str("item");
    case StreamTable::Step::kEnd:
      return py::str("end");
    case StreamTable::Step::kNotYet:
      break;
  }
  return py::str("not yet");
}

void RegisterObjectStream(py::module_& module) {
  py::class_<ObjectStream>(module, "ObjectStream")
      .def("next", &ObjectStream::Next, py::arg("timeout"))
      .def("peek", &ObjectStream::Peek)
      .def("advance", &ObjectStream::Advance, py::arg("peeked"))
      .def("completed", &ObjectStream::completed)
      .def("task_id",
           [](const ObjectStream& self) { return py::bytes(self.task().BinaryString()); });
}

}  // namespace ray::bindings
