// How many leases a node can grant and take back, and whether that depends on how many wait.
#include <benchmark/benchmark.h>

#include <optional>
#include <string>

#include "ray/base/check.h"
#include "ray/base/clock.h"
#include "ray/base/ids.h"
#include "ray/resources/node_resources.h"
#include "ray/scheduling/lease_queue.h"

namespace ray::scheduling {
namespace {

constexpr ClientId kClient = 1;

// A pool with a worker for every lease; remembers the last grant.
class Pool final : public LeaseQueue::Actions {
 public:
  std::optional<base::WorkerId> AcquireWorker(const base::LeaseId&, const base::JobId&,
                                              const std::string&) override {
    return base::WorkerId::Random();
  }
  void AbandonWorker(const base::LeaseId&) override {}
  void ReleaseWorker(const base::WorkerId&, WorkerAfter) override {}
  void GrantLease(const LeaseGrant& grant) override { granted = grant.lease; }
  void RefuseLease(ClientId, uint64_t) override {}
  void GiveUp(ClientId, uint64_t, const std::string&) override {}
  void ReclaimLeases(ClientId) override {}
  void Warn(const LeaseWarning&) override {}

  base::LeaseId granted;
};

class Node {
 public:
  void Request() {
    LeaseRequest request;
    request.client = kClient;
    request.request_id = ++requests_;
    request.resources = {{"CPU", 1}};
    request.job = base::JobIdFromInt(1);
    MANTA_CHECK(queue_.Request(std::move(request)).ok());
  }
  void ReturnLast() { MANTA_CHECK(queue_.Return(kClient, pool_.granted, LeaseEnd::kDone).ok()); }

 private:
  Pool pool_;
  LeaseQueue queue_{
      {}, resources::NodeResources({{"CPU", 1}, {"memory", 1e9}}), base::RealClock::Get(), &pool_};
  uint64_t requests_ = 0;
};

// One CPU and range(0) requests behind the one that runs: each return grants the next.
void BM_RequestGrantReturn(benchmark::State& state) {
  Node node;
  for (int64_t i = 0; i < state.range(0); ++i) node.Request();
  for (auto _ : state) {
    node.Request();
    node.ReturnLast();
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_RequestGrantReturn)->ArgName("queued")->Arg(0)->Arg(1000)->Arg(1'000'000);

}  // namespace
}  // namespace ray::scheduling
