// `_raylet.Core`: the core worker as Python sees it; its methods are described in _raylet.pyi. Here
// are objects and tasks; what one topic more needs is in a file of its own, which adds methods to
// the Python type. Threads: with the GIL; methods that can block release it.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "ray/bindings/execution.h"
#include "ray/bindings/ready_queue.h"
#include "ray/core/core_worker.h"

namespace ray::bindings {

namespace py = pybind11;

struct PyTaskTemplate;

class Core {
 public:
  using Session = std::shared_ptr<core::CoreWorker>;

  static std::unique_ptr<Core> Connect(const core::CoreWorker::Options& options);
  Core(Session session, bool is_driver)
      : session_(std::move(session)), execution_(session_), is_driver_(is_driver) {}

  const Session& session() const { return session_; }
  Execution& execution() { return execution_; }
  bool is_driver() const { return is_driver_; }
  void Shutdown();
  // Raises if the session has ended.
  void RequireLive() const;

  // -- objects
  py::object Put(const py::object& value);
  py::object GetOne(const py::object& ref, const py::object& timeout);
  py::list Get(const py::list& refs, const py::object& timeout);
  py::tuple Wait(const py::list& waitables, int64_t num_returns, const py::object& timeout,
                 bool fetch_local);
  py::object Defer(const std::shared_ptr<ReadyQueue>& queue, uint64_t wanted, uint64_t gone);
  void Fulfil(const py::bytes& object_id, const py::object& value, bool is_error);
  bool NotifyWhenReady(const py::object& ref, const std::shared_ptr<ReadyQueue>& queue,
                       uint64_t token, bool flush);
  std::vector<uint64_t> AwaitReady(const std::shared_ptr<ReadyQueue>& queue);
  py::dict ReferenceCounts();

  // -- tasks
  py::object SubmitTask(const PyTaskTemplate& of, const py::tuple& args, const py::object& kwargs);
  void Cancel(const py::object& ref, bool force, bool recursive);
  void CancelUnlessStarted(const py::object& ref);
  std::string WhyPending(const py::object& ref);
  void ReportEnvironmentError(const std::string& message);
  py::dict CurrentTask();

 private:
  // Raises unless it is a reference of this session.
  void RequireOwn(PyObject* ref) const;
  const base::ObjectId& IdOf(PyObject* ref) const;
  std::vector<core::HeldReference*> HeldIn(const py::tuple& refs) const;
  std::vector<core::ArgumentBytes> Fetch(absl::Span<const base::ObjectId> ids,
                                         const py::object& timeout);

  const Session session_;
  Execution execution_;
  const bool is_driver_;
};

// What `.remote()` gives for a call: its references, its generator, or None.
py::object WrapReturns(const Core::Session& session, const base::TaskId& task, int num_returns);

void RegisterCore(py::module_& module);
// What RegisterCore adds to the type, by topic.
void RegisterActors(py::module_& module, py::class_<Core>& type);  // core_object_actors.cc
void RegisterCluster(py::class_<Core>& type);                      // core_object_cluster.cc

}  // namespace ray::bindings
