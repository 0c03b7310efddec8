// Who uses what of which node, as those who use it say: what no node may give twice.
// Threads: one.   Errors: aborts when more is used than is there.
#pragma once

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"
#include "ray/base/ids.h"
#include "ray/resources/resource_set.h"
#include "tests/sim/world/world.h"

namespace ray::sim {

class Ledger {
 public:
  void AddNode(const base::NodeId& node, const resources::ResourceSet& total) {
    nodes_[node].total = total;
  }
  // Until End, or the end of the process.
  void Begin(const base::NodeId& node, const Process* process,
             const resources::ResourceSet& amount) {
    Node& at = nodes_.at(node);
    std::erase_if(at.users, [](const auto& user) { return !user.first->alive; });
    MANTA_CHECK_MSG(at.users.emplace(process, amount).second, "a worker runs two things at once");
    resources::ResourceSet sum;
    for (const auto& [user, used] : at.users) sum += used;
    if (sum.FitsIn(at.total)) return;
    std::string who;
    for (const auto& [user, used] : at.users) {
      absl::StrAppend(&who, " ", user->name, " ", user->pid, " ", used.ToString());
    }
    MANTA_CHECK_MSG(false,
                    absl::StrCat("a resource is granted twice: of ", at.total.ToString(), who));
  }
  void End(const base::NodeId& node, const Process* process) {
    nodes_.at(node).users.erase(process);
  }

 private:
  struct Node {
    resources::ResourceSet total;
    std::map<const Process*, resources::ResourceSet> users;
  };
  std::map<base::NodeId, Node> nodes_;
};

}  // namespace ray::sim
