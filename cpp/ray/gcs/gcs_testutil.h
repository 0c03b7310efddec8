// What the tests of the GCS share: a sender that remembers, a storage that can fail, and short ways
// to make messages.
// Threads: thread-compatible.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "ray/base/ids.h"
#include "ray/gcs/memory_storage.h"
#include "ray/gcs/node_probe.h"
#include "ray/gcs/node_sender.h"
#include "ray/gcs/storage.h"
#include "ray/gcs/v1/gcs.pb.h"

namespace ray::gcs {

class RecordingSender final : public NodeSender {
 public:
  void Send(const base::NodeId& node, const v1::GcsMessage& message) override {
    sent_.emplace_back(node, message);
  }

  // The messages of one kind to one node since the last look, in order.
  std::vector<v1::GcsMessage> Take(const base::NodeId& node, v1::GcsMessage::MessageCase kind) {
    std::vector<v1::GcsMessage> taken;
    std::erase_if(sent_, [&](const auto& entry) {
      if (entry.first != node || entry.second.message_case() != kind) return false;
      taken.push_back(entry.second);
      return true;
    });
    return taken;
  }
  void Clear() { sent_.clear(); }

 private:
  std::vector<std::pair<base::NodeId, v1::GcsMessage>> sent_;
};

// Answers when the test says so.
class FakeProbe final : public NodeProbe {
 public:
  void Ask(const std::string& tcp_endpoint, Callback callback) override {
    asked_.emplace_back(tcp_endpoint, std::move(callback));
  }
  // Answers what was asked since the last time; returns of which endpoints.
  std::vector<std::string> Answer(bool refused) {
    std::vector<std::string> endpoints;
    for (auto& [endpoint, callback] : std::exchange(asked_, {})) {
      endpoints.push_back(endpoint);
      callback(refused);
    }
    return endpoints;
  }

 private:
  std::vector<std::pair<std::string, Callback>> asked_;
};

// Memory whose writes fail while `broken`.
class FailingStorage final : public Storage {
 public:
  absl::StatusOr<std::string> Get(std::string_view table, std::string_view key) override {
    return memory_.Get(table, key);
  }
  absl::Status Scan(std::string_view table, std::string_view prefix, Visitor visit) override {
    return memory_.Scan(table, prefix, visit);
  }
  absl::Status Write(const WriteBatch& batch) override {
    return broken ? absl::ResourceExhaustedError("disk full") : memory_.Write(batch);
  }

  bool broken = false;

 private:
  MemoryStorage memory_;
};

// As replies carry it.
inline int Code(absl::StatusCode code) { return static_cast<int>(code); }

inline wire::v1::ResourceSet Resources(const std::map<std::string, int64_t>& units) {
  wire::v1::ResourceSet set;
  for (const auto& [name, quantity] : units) (*set.mutable_quantities())[name] = quantity * 10'000;
  return set;
}

inline wire::v1::NodeState NodeWith(const base::NodeId& node,
                                    const std::map<std::string, int64_t>& units) {
  wire::v1::NodeState state;
  state.set_node_id(node.BinaryString());
  *state.mutable_total() = Resources(units);
  *state.mutable_available() = Resources(units);
  return state;
}

inline v1::NodeReport ReportOf(uint64_t sequence, const std::map<std::string, int64_t>& total,
                               const std::map<std::string, int64_t>& available) {
  v1::NodeReport report;
  report.set_sequence(sequence);
  *report.mutable_total() = Resources(total);
  *report.mutable_available() = Resources(available);
  return report;
}

// Of an actor that needs one CPU to be created and none to live.
inline wire::v1::ActorSpec SpecOf(const base::ActorId& actor, const base::WorkerId& owner,
                                  const base::NodeId& owner_node) {
  wire::v1::ActorSpec spec;
  spec.set_actor_id(actor.BinaryString());
  spec.mutable_owner()->set_worker_id(owner.BinaryString());
  spec.mutable_owner()->set_node_id(owner_node.BinaryString());
  spec.set_class_name("Counter");
  *spec.mutable_creation_resources() = Resources({{"CPU", 1}});
  return spec;
}

}  // namespace ray::gcs
