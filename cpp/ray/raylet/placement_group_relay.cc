#include "ray/raylet/placement_group_relay.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/logging.h"
#include "ray/base/status_macros.h"
#include "ray/raylet/relay.h"
#include "ray/wire/v1/leases.pb.h"

namespace ray::raylet {

using base::PlacementGroupId;
using wire::v1::PlacementGroupInfo;
using wire::v1::PlacementGroupRequest;
using wire::v1::PlacementGroupSpec;
using wire::v1::PlacementGroupsReply;
using wire::v1::StatusReply;
using wire::v1::WaitPlacementGroup;

namespace {

// Before the GCS is asked again when it did not answer.
constexpr absl::Duration kAskAgain = absl::Seconds(1);
// In one call.
constexpr size_t kChangesMax = 1000;

bool IsSettled(const PlacementGroupInfo& info) {
  return info.state() == wire::v1::GROUP_CREATED || info.state() == wire::v1::GROUP_STATE_REMOVED;
}

}  // namespace

// A client that waits for a group. Threads: thread-compatible.
struct PlacementGroupRelay::Waiting {
  scheduling::ClientId client;
  PlacementGroupId group;
  absl::Time deadline;
  Responder responder;
  std::string warned;  // the reason it was told last
};

PlacementGroupRelay::PlacementGroupRelay(net::EventLoop* loop, const base::Clock* clock,
                                         FrameRouter* router, const ClientRegistry* clients,
                                         gcs::GcsClient* gcs, BundleHost* bundles, Events events)
    : loop_(loop),
      clock_(clock),
      clients_(clients),
      gcs_(gcs),
      bundles_(bundles),
      events_(std::move(events)) {
  router->On<PlacementGroupSpec>(wire::v1::CREATE_PLACEMENT_GROUP,
                                 [this](Client&, const auto& message, const Responder& responder) {
                                   return OnCreate(message, responder);
                                 });
  router->On<PlacementGroupRequest>(
      wire::v1::REMOVE_PLACEMENT_GROUP,
      [this](Client&, const auto& message, const Responder& responder) {
        return OnRemove(message, responder);
      });
  router->On<WaitPlacementGroup>(
      wire::v1::WAIT_PLACEMENT_GROUP,
      [this](Client& client, const auto& message, const Responder& responder) {
        return OnWait(client, message, responder);
      });
  router->On<PlacementGroupRequest>(
      wire::v1::LIST_PLACEMENT_GROUPS,
      [this](Client&, const auto& message, const Responder& responder) {
        return OnList(message, responder);
      });
}

PlacementGroupRelay::~PlacementGroupRelay() = default;

// --- Changes, and what is asked behind them

absl::Status PlacementGroupRelay::OnCreate(const PlacementGroupSpec& message,
                                           const Responder& responder) {
  gcs::v1::PlacementGroupChange change;
  *change.mutable_create() = message;
  Queue(std::move(change), responder);
  return absl::OkStatus();
}

absl::Status PlacementGroupRelay::OnRemove(const PlacementGroupRequest& message,
                                           const Responder& responder) {
  MANTA_ASSIGN_OR_RETURN(const PlacementGroupId group,
                         PlacementGroupId::FromBinary(message.placement_group_id()));
  bundles_->ExpectRemoval(group);
  gcs::v1::PlacementGroupChange change;
  change.set_remove(message.placement_group_id());
  Queue(std::move(change), std::nullopt);
  responder.Send(StatusReply());
  return absl::OkStatus();
}

void PlacementGroupRelay::Queue(gcs::v1::PlacementGroupChange change,
                                std::optional<Responder> responder) {
  changes_.push_back({std::move(change), std::move(responder)});
  if (sent_ == 0) SendChanges();
}

void PlacementGroupRelay::SendChanges() {
  sent_ = std::min(changes_.size(), kChangesMax);
  if (sent_ == 0) return;
  gcs::v1::ChangePlacementGroupsRequest request;
  for (size_t i = 0; i < sent_; ++i) *request.add_changes() = changes_[i].message;
  gcs_->ChangePlacementGroups(request, [this](const auto& reply) { OnChanged(reply); });
}

void PlacementGroupRelay::OnChanged(
    const absl::StatusOr<gcs::v1::ChangePlacementGroupsReply>& reply) {
  if (!reply.ok()) {
    MANTA_LOG(kError, sent_,
              " changes of placement groups did not reach the GCS: ", reply.status().message());
  }
  for (int i = 0; i < static_cast<int>(sent_); ++i) {
    StatusReply result = ToStatusReply(reply.status());
    if (reply.ok() && i < reply->results_size()) result = reply->results(i);
    Change& change = changes_.front();
    if (change.responder.has_value()) {
      change.responder->Send(result);
    } else if (!reply.ok()) {
      RemoveLater(std::move(change));
    }
    changes_.pop_front();
  }
  changes_done_ += sent_;
  SendChanges();
  while (!questions_.empty() && questions_.front().first <= changes_done_) {
    Deferred run = std::move(questions_.front().second);
    questions_.pop_front();
    run();
  }
}

// Who asked for it believes that it is done.
void PlacementGroupRelay::RemoveLater(Change change) {
  loop_->RunAfter(
      kAskAgain, [this, change = std::move(change), alive = std::weak_ptr<bool>(alive_)]() mutable {
        if (!alive.expired()) Queue(std::move(change.message), std::nullopt);
      });
}

void PlacementGroupRelay::AfterChanges(Deferred run) {
  if (changes_.empty()) return run();
  questions_.emplace_back(changes_done_ + changes_.size(), std::move(run));
}

absl::Status PlacementGroupRelay::OnList(const PlacementGroupRequest& message,
                                         const Responder& responder) {
  AfterChanges([this, message, responder] {
    gcs_->ListPlacementGroups(message, RelayTo<PlacementGroupsReply>(responder));
  });
  return absl::OkStatus();
}

// --- Waiting

absl::Status PlacementGroupRelay::OnWait(const Client& client, const WaitPlacementGroup& message,
                                         const Responder& responder) {
  MANTA_ASSIGN_OR_RETURN(const PlacementGroupId group,
                         PlacementGroupId::FromBinary(message.placement_group_id()));
  const absl::Time deadline = message.timeout_ms() < 0
                                  ? absl::InfiniteFuture()
                                  : clock_->Now() + absl::Milliseconds(message.timeout_ms());
  auto waiting = std::make_shared<Waiting>(Waiting{client.id, group, deadline, responder, ""});
  if (bundles_->IsCreated(group)) {
    Answer(waiting);
  } else {
    AfterChanges([this, waiting] { Answer(waiting); });
  }
  return absl::OkStatus();
}

void PlacementGroupRelay::Answer(const std::shared_ptr<Waiting>& waiting) {
  if (!bundles_->IsCreated(waiting->group)) return AskAndAnswer(waiting);
  Reply reply;
  PlacementGroupInfo* info = reply.add_groups();
  info->mutable_spec()->set_placement_group_id(waiting->group.BinaryString());
  info->set_state(wire::v1::GROUP_CREATED);
  waiting->responder.Send(reply);
}

// The GCS answers a long wait early; then it is asked again.
void PlacementGroupRelay::AskAndAnswer(const std::shared_ptr<Waiting>& waiting) {
  WaitPlacementGroup question;
  question.set_placement_group_id(waiting->group.BinaryString());
  const absl::Duration left = waiting->deadline - clock_->Now();
  question.set_timeout_ms(left == absl::InfiniteDuration()
                              ? -1
                              : std::max<int64_t>(0, absl::ToInt64Milliseconds(left)));
  gcs_->WaitPlacementGroup(question, [this, waiting](absl::StatusOr<Reply> reply) {
    const bool is_late = reply.ok() && reply->groups_size() == 1 && !IsSettled(reply->groups(0)) &&
                         clock_->Now() < waiting->deadline;
    if (!is_late) return RelayTo<Reply>(waiting->responder)(std::move(reply));
    if (clients_->Find(waiting->client) == nullptr) return;  // nobody waits any more
    Warn(waiting.get(), reply->groups(0));
    AskAndAnswer(waiting);
  });
}

void PlacementGroupRelay::Warn(Waiting* waiting, const PlacementGroupInfo& info) {
  if (info.pending_reason().empty() || info.pending_reason() == waiting->warned) return;
  waiting->warned = info.pending_reason();
  wire::v1::PendingWarning warning;
  warning.set_task_name("placement_group");
  warning.set_infeasible(true);
  warning.set_message(info.pending_reason());
  clients_->Find(waiting->client)->connection->Send(wire::v1::TASK_PENDING_WARNING, warning);
}

// --- The fate of groups that lease requests name

void PlacementGroupRelay::Watch(const PlacementGroupId& group) {
  if (!watched_.insert(group).second) return;
  AfterChanges([this, group] { AskForWatched(group); });
}

void PlacementGroupRelay::AskForWatched(const PlacementGroupId& group) {
  WaitPlacementGroup question;
  question.set_placement_group_id(group.BinaryString());
  question.set_timeout_ms(-1);
  gcs_->WaitPlacementGroup(
      question, [this, group](const absl::StatusOr<Reply>& reply) { OnWatched(group, reply); });
}

void PlacementGroupRelay::OnWatched(const PlacementGroupId& group,
                                    const absl::StatusOr<Reply>& reply) {
  if (!reply.ok()) {
    MANTA_LOG(kWarning, "the GCS does not say what became of placement group ", group.Hex(), ": ",
              reply.status().message());
    loop_->RunAfter(kAskAgain, [this, group, alive = std::weak_ptr<bool>(alive_)] {
      if (!alive.expired()) AskForWatched(group);
    });
    return;
  }
  const bool is_known = reply->groups_size() == 1;
  if (is_known && !IsSettled(reply->groups(0))) return AskForWatched(group);
  watched_.erase(group);
  if (!is_known || reply->groups(0).state() == wire::v1::GROUP_STATE_REMOVED) {
    events_.on_removed(group);
  } else {
    events_.on_placed(reply->groups(0));
  }
}

}  // namespace ray::raylet
