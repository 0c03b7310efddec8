// The executing side in Python: runs calls that the core worker hands out, and turns results and
// exceptions into replies. One a worker process. Threads: with the GIL, which is released while
// waiting for calls. Serve on the main thread.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "ray/core/core_worker.h"
#include "ray/wire/v1/scheduling.pb.h"

namespace ray::bindings {

namespace py = pybind11;

// What the calling thread runs, for the runtime context.
struct RunningTask {
  base::TaskId task_id;
  base::ActorId actor_id;
  core::ReceivedTemplatePtr task_template;
  uint32_t attempt = 0;
  const core::IncomingCall* call = nullptr;  // null for the creation of an actor
};
// Null outside of a call, and in an event loop.
const RunningTask* CurrentTask();
// The task whose code submits a call now, in an event loop too; nil: none.
base::TaskId SubmittingTask();

class Execution {
 public:
  explicit Execution(std::shared_ptr<core::CoreWorker> session) : session_(std::move(session)) {}

  // See _raylet.pyi: Core.serve and the rest.
  py::object Serve(const py::object& callbacks);
  void ServeThread();
  void ExitActor(const std::string& reason);

  // For event loops: takes calls that may start. A call that is cancelled while it runs is handed
  // out once more.
  struct AsyncCall;
  py::object TakeCalls(int limit);
  // See Core.await_events in _raylet.pyi.
  py::tuple AwaitEvents(const py::object& timeout);

  const std::shared_ptr<const wire::v1::CreateActor>& creation() const { return creation_; }

 private:
  enum class Mode { kMainThread, kThreads, kAsyncio };

  // False: the process must end.
  bool Run(const core::IncomingCallPtr& call);
  void UseNewDevices();
  void CountCall(const core::ReceivedTemplate& of);
  bool RunToReply(const core::IncomingCallPtr& call);
  // Sends what the generator `items` yields; see execution_streams.cc.
  void RunStream(const core::IncomingCallPtr& call, const py::object& items);
  // Sends what was yielded, as one item or several; `sent` counts them.
  void SendYield(const core::IncomingCallPtr& call, uint64_t* sent, const py::object& yielded);
  void SendItem(const core::IncomingCallPtr& call, uint64_t index, const py::object& item);
  void EndStream(const core::IncomingCallPtr& call, uint64_t count);
  py::object CallWithArguments(const core::IncomingCall& call);
  void Create(const core::IncomingCallPtr& call);
  void NoteCapture(const wire::v1::SchedulingStrategy& strategy);
  py::object CallableOf(const core::IncomingCall& call);
  void ReplyValue(const core::IncomingCallPtr& call, const py::object& value);
  void ReplyError(const core::IncomingCallPtr& call, const py::object& exception, bool retryable);
  core::ResultValue MakeResult(const core::IncomingCallPtr& call, size_t index,
                               const py::object& value);
  static core::ResultValue MakeError(const py::object& exception);
  std::vector<py::object> SplitReturns(const core::IncomingCallPtr& call, const py::object& value);
  void ReplyException(const core::IncomingCallPtr& call, py::object exception);
  bool LeaveOnSystemExit(const core::IncomingCallPtr& call, const py::object& exception);
  void InstallCancelHandler();

  const std::shared_ptr<core::CoreWorker> session_;
  py::object callbacks_;
  py::object instance_;  // of the actor
  Mode mode_ = Mode::kMainThread;
  std::shared_ptr<const wire::v1::CreateActor> creation_;
  absl::flat_hash_set<std::string> groups_;
  std::optional<std::string> leaving_;                         // exit_actor: why
  absl::flat_hash_map<std::string, uint32_t> calls_;           // of functions with max_calls
  absl::flat_hash_map<base::TaskId, py::object> async_calls_;  // running on the event loop
};

void RegisterExecution(py::module_& module);

}  // namespace ray::bindings
