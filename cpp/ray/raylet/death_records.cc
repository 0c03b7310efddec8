#include "ray/raylet/death_records.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/status_macros.h"
#include "ray/net/parse_frame.h"

namespace ray::raylet {

using base::WorkerId;
using wire::v1::WorkerDeathReply;

namespace {

// A worker that is still there after this time lost its connection, not its life.
constexpr absl::Duration kPatience = absl::Seconds(1);

}  // namespace

DeathRecords::DeathRecords(net::EventLoop* loop, FrameRouter* router, const WorkerPool* pool,
                           const ClientRegistry* clients, NodePeers* peers, size_t limit)
    : loop_(loop), pool_(pool), clients_(clients), peers_(peers), limit_(limit) {
  router->On<wire::v1::WorkerDeathRequest>(
      wire::v1::WORKER_DEATH, [this](Client&, const auto& message, const Responder& responder) {
        return OnQuestion(message, responder);
      });
}

DeathRecords::~DeathRecords() {
  for (const auto& [worker, questions] : questions_) {
    for (const Question& question : questions) loop_->Cancel(question.timer);
  }
}

absl::Status DeathRecords::OnQuestion(const wire::v1::WorkerDeathRequest& message,
                                      const Responder& responder) {
  if (!message.node_id().empty()) return PassOn(message, responder);
  MANTA_ASSIGN_OR_RETURN(const WorkerId worker, WorkerId::FromBinary(message.worker_id()));
  if (auto it = known_.find(worker); it != known_.end()) {
    responder.Send(it->second);
    return absl::OkStatus();
  }
  if (!pool_->Knows(worker)) {
    responder.Send(NoDeathOf(worker));
    return absl::OkStatus();
  }
  const auto timer = loop_->RunAfter(kPatience, [this, worker] {
    const auto unanswered = questions_.extract(worker);
    for (const Question& question : unanswered.mapped()) {
      loop_->Cancel(question.timer);
      question.responder.Send(NoDeathOf(worker));
    }
  });
  questions_[worker].push_back({responder, timer});
  return absl::OkStatus();
}

WorkerDeathReply DeathRecords::NoDeathOf(const WorkerId& worker) const {
  WorkerDeathReply reply;
  reply.set_is_alive(clients_->FindByWorker(worker) != nullptr);
  return reply;
}

absl::Status DeathRecords::PassOn(const wire::v1::WorkerDeathRequest& message,
                                  const Responder& responder) {
  MANTA_ASSIGN_OR_RETURN(const base::NodeId node, base::NodeId::FromBinary(message.node_id()));
  const auto node_died = [responder, node, is_dead = peers_->IsDead(node)](const std::string& why) {
    WorkerDeathReply reply;
    reply.set_node_died(true);
    reply.set_node_is_dead(is_dead);
    reply.set_message(absl::StrCat("node ", node.Hex(), ": ", why));
    responder.Send(reply);
  };
  net::Connection* raylet = peers_->Get(node);
  if (raylet == nullptr) {
    node_died("it has left the cluster");
    return absl::OkStatus();
  }
  wire::v1::WorkerDeathRequest there;
  there.set_worker_id(message.worker_id());
  raylet->Call(wire::v1::WORKER_DEATH, there,
               [responder, node_died](const absl::StatusOr<net::Frame>& frame) {
                 WorkerDeathReply reply;
                 if (!frame.ok()) return node_died(std::string(frame.status().message()));
                 if (!net::ParseMetadata(*frame, &reply)) {
                   return node_died("its raylet's answer does not parse");
                 }
                 responder.Send(reply);
               });
  return absl::OkStatus();
}

void DeathRecords::WorkerDied(const WorkerDeath& death, const std::string& explanation) {
  if (death.worker.IsNil()) return;
  WorkerDeathReply record;
  record.set_known(true);
  record.set_message(explanation);
  record.set_out_of_memory(death.out_of_memory);
  if (auto asked = questions_.extract(death.worker); !asked.empty()) {
    for (const Question& question : asked.mapped()) {
      loop_->Cancel(question.timer);
      question.responder.Send(record);
    }
  }
  if (limit_ == 0) return;
  if (order_.size() >= limit_) {
    known_.erase(order_.front());
    order_.pop_front();
  }
  order_.push_back(death.worker);
  known_[death.worker] = std::move(record);
}

}  // namespace ray::raylet
