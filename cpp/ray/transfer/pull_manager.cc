#include "ray/transfer/pull_manager.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "ray/base/check.h"

namespace ray::transfer {

using base::NodeId;
using base::ObjectId;

namespace {

std::string NodeName(const NodeId& node) { return absl::StrCat("node ", node.Hex().substr(0, 12)); }

}  // namespace

PullManager::PullManager(const Options& options, const base::Clock* clock, Actions* actions)
    : options_(options), clock_(clock), actions_(actions) {}

// --- Requests

PullManager::RequestId PullManager::Pull(std::vector<Wanted> wanted, PullPriority priority) {
  const RequestId request{priority, ++last_request_};
  requests_[request];
  for (const Wanted& one : wanted) Want(request, one);
  UnholdAllButFirst();
  Advance();
  return request;
}

void PullManager::Want(const RequestId& request, const Wanted& wanted) {
  requests_[request].insert(wanted.id);
  std::unique_ptr<Pulled>& pull = pulls_[wanted.id];
  if (pull == nullptr) {
    pull = std::make_unique<Pulled>();
    pull->id = wanted.id;
    pull->rank = {request, ++last_pull_};
    Enter(pull.get(), wanted.here ? State::kHere : State::kToAsk);
  } else if (request < pull->rank.first) {
    RankAs(pull.get(), request);
  }
  pull->requests.insert(request);
  AddSources(pull.get(), wanted.sources);
}

void PullManager::Cancel(const RequestId& request) {
  auto node = requests_.extract(request);
  if (node.empty()) return;
  for (const ObjectId& id : node.mapped()) {
    Pulled* pull = Find(id);
    pull->requests.erase(request);
    if (pull->requests.empty()) {
      Abandon(pull);
    } else {
      RankAs(pull, *pull->requests.begin());
    }
  }
  UnholdAllButFirst();
  Advance();
}

void PullManager::RankAs(Pulled* pull, const RequestId& request) {
  const State state = pull->state;
  LeaveState(pull);
  pull->rank.first = request;
  Enter(pull, state);
}

void PullManager::Abandon(Pulled* pull) {
  if (pull->state == State::kReserving || pull->state == State::kFetching) return;
  LeaveState(pull);
  EndSource(pull, false);
  DropMemory(pull);
  if (held_.erase(pull) > 0) actions_->Unhold(pull->id);
  Erase(pull);
}

void PullManager::Fail(Pulled* pull, PullFailure failure, const std::string& reason) {
  DropMemory(pull);
  for (const RequestId& request : pull->requests) requests_.at(request).erase(pull->id);
  const ObjectId id = pull->id;
  const bool awaited = !pull->requests.empty();
  Erase(pull);
  if (awaited) actions_->Fail(id, failure, reason);
}

bool PullManager::IsFirst(const Pulled& pull) const {
  return !requests_.empty() && pull.requests.contains(requests_.begin()->first);
}

void PullManager::UnholdAllButFirst() {
  for (auto it = held_.begin(); it != held_.end();) {
    Pulled* pull = *it++;
    if (IsFirst(*pull)) continue;
    held_.erase(pull);
    pull->held = false;
    actions_->Unhold(pull->id);
  }
}

void PullManager::Revoke() {
  for (Pulled* pull : held_) {
    pull->held = false;
    actions_->Unhold(pull->id);
  }
  held_.clear();
}

// --- Sources

void PullManager::AddSources(Pulled* pull, absl::Span<const NodeId> nodes) {
  for (const NodeId& node : nodes) {
    const bool known = std::any_of(pull->sources.begin(), pull->sources.end(),
                                   [&](const Source& source) { return source.node == node; });
    if (!known && node != options_.self) pull->sources.push_back({.node = node});
  }
}

void PullManager::DropSource(Pulled* pull, const NodeId& node, const std::string& why) {
  const size_t dropped =
      std::erase_if(pull->sources, [&](const Source& source) { return source.node == node; });
  constexpr size_t kReasonsMax = 1'000;  // characters
  if (dropped == 0 || pull->tried.size() > kReasonsMax) return;
  absl::StrAppend(&pull->tried, pull->tried.empty() ? "" : "; ", NodeName(node), ": ", why);
}

void PullManager::AskNext(Pulled* pull) {
  if (pull->sources.empty()) {
    return Fail(pull, PullFailure::kLost,
                pull->tried.empty() ? "no other node is known to have a copy"
                                    : absl::StrCat("no copy could be fetched (", pull->tried, ")"));
  }
  for (Source& source : pull->sources) {
    if (source.asked_round < pull->round) return Ask(pull, &source);
  }
  constexpr uint64_t kShortPauses = 3;  // each twice as long as the one before
  const uint64_t halvings = kShortPauses - std::min(kShortPauses, pull->round - 1);
  pull->ask_at = clock_->Now() + options_.retry_pause / (1 << halvings);
  ++pull->round;
  // Not the same one first every time.
  std::rotate(pull->sources.begin(), pull->sources.begin() + 1, pull->sources.end());

  Enter(pull, State::kPaused);
}

void PullManager::Ask(Pulled* pull, Source* source) {
  source->asked_round = pull->round;
  pull->source = source->node;
  pull->ask_number = ++last_number_;
  Enter(pull, State::kAsking);
  actions_->Ask(pull->source, pull->id, pull->ask_number, pull->reserved ? pull->tier : 0);
}

void PullManager::OnAnswer(const ObjectId& id, uint64_t number, const PullAnswer& answer) {
  Pulled* pull = Find(id);
  if (pull == nullptr || pull->state != State::kAsking || pull->ask_number != number) return;
  LeaveState(pull);
  switch (answer.outcome) {
    case PullAnswer::Outcome::kReady: {
      const bool changed = pull->reserved && answer.facts.size_bytes != pull->facts.size_bytes;
      const bool too_high = pull->reserved && answer.tier >= pull->tier;
      if (answer.facts.size_bytes == 0 || changed || too_high) {
        DropSource(pull, pull->source,
                   too_high ? "its copy may wait for this one" : "its copy has another size");
        EndSource(pull, false);
        AskNext(pull);
        break;
      }
      pull->facts = answer.facts;
      pull->available_bytes = answer.available_bytes;
      if (!pull->reserved) pull->tier = answer.tier + 1;
      pull->reserved ? StartFetching(pull) : Enter(pull, State::kQueued);
      break;
    }
    case PullAnswer::Outcome::kAbsent:
      DropSource(pull, pull->source,
                 answer.reason.empty() ? "it has no copy (any more)" : answer.reason);
      pull->source = NodeId();
      AskNext(pull);
      break;
    case PullAnswer::Outcome::kBusy:
      AddSources(pull, answer.other_nodes);
      pull->source = NodeId();
      AskNext(pull);
      break;
    case PullAnswer::Outcome::kBroken:
      SourceBroke(pull, answer.reason);
      break;
  }
  Advance();
}

void PullManager::OnMore(const ObjectId& id, uint64_t number, uint64_t available_bytes) {
  Pulled* pull = Find(id);
  if (pull == nullptr || pull->state != State::kFetching || pull->more_number != number) return;
  pull->more_number = 0;
  if (available_bytes <= pull->available_bytes) {
    StopFetching(pull, "its copy will not be completed");
  } else {
    pull->available_bytes = available_bytes;
    Enter(pull, State::kFetching);
    AskForMore(pull);
  }
  Advance();
}

void PullManager::SourceBroke(Pulled* pull, const std::string& why) {
  const NodeId node = std::exchange(pull->source, NodeId());
  for (Source& source : pull->sources) {
    if (source.node != node || ++source.failures < options_.attempts_max) continue;
    DropSource(pull, node, why);
    break;
  }
  if (!pull->requests.empty()) return AskNext(pull);
  DropMemory(pull);
  Erase(pull);
}

void PullManager::EndSource(Pulled* pull, bool fetched) {
  if (pull->source.IsNil()) return;
  actions_->End(std::exchange(pull->source, NodeId()), pull->id, fetched);
}

void PullManager::NodeGone(const NodeId& node) {
  std::vector<ObjectId> ids;
  for (const auto& [id, pull] : pulls_) ids.push_back(id);
  for (const ObjectId& id : ids) {
    Pulled* pull = Find(id);
    DropSource(pull, node, "it died");
    if (pull->source != node) continue;
    switch (pull->state) {
      case State::kAsking:
      case State::kQueued:
        LeaveState(pull);
        pull->source = NodeId();
        AskNext(pull);
        break;
      case State::kReserving:
        pull->source = NodeId();
        break;
      case State::kFetching:
        StopFetching(pull, "it died");
        break;
      case State::kToAsk:
      case State::kPaused:
      case State::kHere:
        break;
    }
  }
  Advance();
}

// --- Memory

void PullManager::OnReserved(const ObjectId& id) {
  Pulled* pull = Find(id);
  if (pull == nullptr || pull->state != State::kReserving) return;
  LeaveState(pull);
  pull->reserved = true;
  if (pull->requests.empty()) {
    EndSource(pull, false);
    DropMemory(pull);
    Erase(pull);
  } else if (pull->source.IsNil()) {
    AskNext(pull);
  } else {
    StartFetching(pull);
  }
  Advance();
}

void PullManager::OnExists(const ObjectId& id) {
  Pulled* pull = Find(id);
  if (pull == nullptr || pull->state != State::kReserving) return;
  LeaveState(pull);
  EndSource(pull, false);
  DropMemory(pull);
  Enter(pull, State::kHere);
  if (pull->requests.empty()) Erase(pull);
  Advance();
}

void PullManager::OnNoMemory(const ObjectId& id, const std::string& reason) {
  Pulled* pull = Find(id);
  if (pull == nullptr || pull->state != State::kReserving) return;
  LeaveState(pull);
  EndSource(pull, false);
  Fail(pull, PullFailure::kNoMemory, reason);
  Advance();
}

uint64_t PullManager::MemoryFor(const Pulled& pull) const {
  const uint64_t size = pull.facts.size_bytes;
  return size > options_.capacity_bytes ? 0 : size;
}

void PullManager::DropMemory(Pulled* pull) {
  if (!std::exchange(pull->admitted, false)) return;
  fetching_bytes_ -= std::exchange(pull->fetching_bytes, 0);
  if (std::exchange(pull->reserved, false)) actions_->Abort(pull->id);
  pull->chunks_issued = pull->chunks_here = 0;
  pull->chunks_again.clear();
}

void PullManager::OnEvicted(const ObjectId& id) {
  Pulled* pull = Find(id);
  if (pull == nullptr || pull->state != State::kHere) return;
  MANTA_CHECK(!pull->held);
  ++pull->round;  // whoever was asked before may be asked at once
  Enter(pull, State::kToAsk);
  Advance();
}

// --- Bytes

uint64_t PullManager::ChunkCount(const Pulled& pull) const {
  return (pull.facts.size_bytes + options_.chunk_bytes - 1) / options_.chunk_bytes;
}

store::Extent PullManager::ChunkExtent(const Pulled& pull, uint64_t chunk) const {
  const uint64_t offset = chunk * options_.chunk_bytes;
  return {offset, std::min(options_.chunk_bytes, pull.facts.size_bytes - offset)};
}

uint64_t PullManager::NextChunk(const Pulled& pull) const {
  return pull.chunks_again.empty() ? pull.chunks_issued : *pull.chunks_again.begin();
}

bool PullManager::MayIssue(const Pulled& pull) const {
  const uint64_t next = NextChunk(pull);
  return pull.broken.empty() && next < ChunkCount(pull) &&
         ChunkExtent(pull, next).end() <= pull.available_bytes;
}

std::optional<PullManager::Partial> PullManager::FindPartial(const ObjectId& id) const {
  auto it = pulls_.find(id);
  if (it == pulls_.end() || !it->second->reserved) return std::nullopt;
  const Pulled& pull = *it->second;
  uint64_t first_missing = NextChunk(pull);
  for (const auto& [number, chunk] : pull.chunks_coming) {
    first_missing = std::min(first_missing, chunk);
  }
  const uint64_t here = std::min(first_missing * options_.chunk_bytes, pull.facts.size_bytes);
  return Partial{.facts = pull.facts, .available_bytes = here, .tier = pull.tier};
}

void PullManager::StartFetching(Pulled* pull) {
  pull->broken.clear();
  Enter(pull, State::kFetching);
  AskForMore(pull);
}

void PullManager::AskForMore(Pulled* pull) {
  const bool waits = pull->broken.empty() && NextChunk(*pull) < ChunkCount(*pull) &&
                     !MayIssue(*pull) && pull->more_number == 0;
  if (!waits) return;
  pull->more_number = ++last_number_;
  actions_->AskMore(pull->source, pull->id, pull->more_number, pull->available_bytes);
}

void PullManager::StopFetching(Pulled* pull, const std::string& why) {
  LeaveState(pull);
  pull->broken = why;
  Enter(pull, State::kFetching);
  if (pull->chunks_coming.empty()) AfterLastChunk(pull);
}

void PullManager::IssueChunk(Node* node, Pulled* pull) {
  const uint64_t chunk = NextChunk(*pull);
  if (pull->chunks_again.erase(chunk) == 0) ++pull->chunks_issued;
  const uint64_t number = ++last_number_;
  pull->chunks_coming.emplace(number, chunk);
  ++node->chunks_coming;
  if (!MayIssue(*pull)) node->pulls.erase(pull->rank);
  actions_->Fetch(pull->source, pull->id, ChunkExtent(*pull, chunk), number);
  AskForMore(pull);
}

void PullManager::OnFetched(const ObjectId& id, uint64_t number, const std::string& error) {
  Pulled* pull = Find(id);
  if (pull == nullptr) return;
  auto coming = pull->chunks_coming.extract(number);
  if (coming.empty()) return;
  LeaveState(pull);
  --nodes_[pull->source].chunks_coming;
  if (error.empty()) {
    ++pull->chunks_here;
    for (Source& source : pull->sources) {
      if (source.node == pull->source) source.failures = 0;
    }
  } else {
    pull->chunks_again.insert(coming.mapped());
    if (pull->broken.empty()) pull->broken = error;
  }
  Enter(pull, State::kFetching);
  const bool over = !pull->broken.empty() || pull->chunks_here == ChunkCount(*pull);
  if (pull->chunks_coming.empty() && over) AfterLastChunk(pull);
  Advance();
}

void PullManager::AfterLastChunk(Pulled* pull) {
  LeaveState(pull);
  pull->more_number = 0;
  if (pull->chunks_here == ChunkCount(*pull)) return Here(pull);
  const NodeId node = pull->source;
  EndSource(pull, false);
  pull->source = node;
  SourceBroke(pull, pull->broken);
}

void PullManager::Here(Pulled* pull) {
  EndSource(pull, true);
  pull->reserved = false;
  DropMemory(pull);
  Enter(pull, State::kHere);
  const bool hold = pull->held = IsFirst(*pull);
  const ObjectId id = pull->id;
  if (hold) held_.insert(pull);
  if (pull->requests.empty()) Erase(pull);
  actions_->Seal(id, hold);
}

// --- States and their queues

PullManager::Pulled* PullManager::Find(const ObjectId& id) {
  auto it = pulls_.find(id);
  return it == pulls_.end() ? nullptr : it->second.get();
}

void PullManager::Enter(Pulled* pull, State state) {
  pull->state = state;
  switch (state) {
    case State::kToAsk:
      to_ask_.emplace(pull->rank, pull);
      break;
    case State::kPaused:
      paused_.emplace(std::pair(pull->ask_at, pull->rank), pull);
      break;
    case State::kQueued:
      queued_.emplace(pull->rank, pull);
      [[fallthrough]];
    case State::kAsking:
      asked_ += pull->reserved ? 0 : 1;
      break;
    case State::kFetching:
      if (MayIssue(*pull)) nodes_[pull->source].pulls.emplace(pull->rank, pull);
      break;
    case State::kReserving:
    case State::kHere:
      break;
  }
}

void PullManager::LeaveState(Pulled* pull) {
  switch (pull->state) {
    case State::kToAsk:
      to_ask_.erase(pull->rank);
      break;
    case State::kPaused:
      paused_.erase({pull->ask_at, pull->rank});
      break;
    case State::kQueued:
      queued_.erase(pull->rank);
      [[fallthrough]];
    case State::kAsking:
      asked_ -= pull->reserved ? 0 : 1;
      break;
    case State::kFetching:
      nodes_[pull->source].pulls.erase(pull->rank);
      break;
    case State::kReserving:
    case State::kHere:
      break;
  }
}

void PullManager::Erase(Pulled* pull) { pulls_.erase(ObjectId(pull->id)); }

void PullManager::Advance() {
  while (!paused_.empty() && paused_.begin()->first.first <= clock_->Now()) {
    Pulled* pull = paused_.begin()->second;
    LeaveState(pull);
    // With memory it is part of what others wait for, and waits for none of them.
    pull->reserved ? AskNext(pull) : Enter(pull, State::kToAsk);
  }
  while (!to_ask_.empty() && asked_ < options_.asked_max) {
    Pulled* pull = to_ask_.begin()->second;
    LeaveState(pull);
    AskNext(pull);
  }
  while (!queued_.empty()) {
    Pulled* pull = queued_.begin()->second;
    const uint64_t bytes = MemoryFor(*pull);
    const bool alone = fetching_bytes_ == 0 || bytes == 0;
    if (!alone && fetching_bytes_ + bytes > options_.memory_limit) break;
    LeaveState(pull);
    pull->admitted = true;
    fetching_bytes_ += pull->fetching_bytes = bytes;
    Enter(pull, State::kReserving);
    actions_->Reserve(pull->id, pull->facts);
  }
  for (auto it = nodes_.begin(); it != nodes_.end();) {
    Node& node = it->second;
    while (!node.pulls.empty() && node.chunks_coming < options_.chunks_per_node) {
      IssueChunk(&node, node.pulls.begin()->second);
    }
    const bool idle = node.pulls.empty() && node.chunks_coming == 0;
    if (idle) {
      nodes_.erase(it++);
    } else {
      ++it;
    }
  }
}

void PullManager::Tick() { Advance(); }

absl::Time PullManager::NextDeadline() const {
  return paused_.empty() ? absl::InfiniteFuture() : paused_.begin()->first.first;
}

void PullManager::CheckInvariants() const {
  uint64_t bytes = 0;
  size_t with_memory = 0;
  size_t asked = 0;
  for (const auto& [id, pull] : pulls_) {
    const State state = pull->state;
    bytes += pull->fetching_bytes;
    if (pull->fetching_bytes > 0) ++with_memory;
    const bool is_asked = state == State::kAsking || state == State::kQueued;
    if (is_asked && !pull->reserved) ++asked;
    MANTA_CHECK_MSG(pull->held == held_.contains(pull.get()), "PULL-5");
    MANTA_CHECK_MSG(!pull->held || (state == State::kHere && IsFirst(*pull)), "PULL-5");
    MANTA_CHECK_MSG(!pull->reserved || pull->admitted, "PULL-2");
    MANTA_CHECK_MSG(pull->fetching_bytes == 0 || pull->admitted, "PULL-1");
    MANTA_CHECK_MSG(pull->chunks_coming.empty() || state == State::kFetching, "PULL-2");
    MANTA_CHECK(!pull->requests.empty() || state == State::kReserving || state == State::kFetching);
    MANTA_CHECK(to_ask_.contains(pull->rank) == (state == State::kToAsk));
    MANTA_CHECK(queued_.contains(pull->rank) == (state == State::kQueued));
    for (const RequestId& request : pull->requests) {
      MANTA_CHECK(requests_.at(request).contains(id));
    }
  }
  MANTA_CHECK_MSG(bytes == fetching_bytes_, "PULL-1");
  MANTA_CHECK_MSG(bytes <= options_.memory_limit || with_memory == 1, "PULL-1");
  MANTA_CHECK(asked == asked_);
}

}  // namespace ray::transfer
