#include "ray/scheduling/node_choice.h"

#include <algorithm>
#include <array>
#include <bit>
#include <vector>

#include "ray/base/check.h"

namespace ray::scheduling {

using base::NodeId;
using resources::ResourceSet;
using wire::v1::SchedulingStrategy;
using Seat = ClusterView::Seat;

namespace {

// Scores are told apart in so many steps.
constexpr int kSteps = 32;
constexpr int kScores = kSteps + 1;
// Preferred labels or not, and GPUs to keep free or not: the better ones first, strictly.
constexpr int kTiers = 4;
constexpr int kNone = -1;
// Nodes that are compared before a request is sent to wait.
constexpr size_t kCompared = 8;

double UseOf(const ClusterView::Node& node, const ResourceSet& request) {
  double use = 0;
  auto consider = [&](std::string_view name) {
    const double total = node.total.Get(name).ToDouble();
    if (total > 0) use = std::max(use, 1 - node.room.Get(name).ToDouble() / total);
  };
  for (std::string_view name :
       {resources::kCpu, resources::kMemory, resources::kObjectStoreMemory}) {
    consider(name);
  }
  for (const auto& [name, quantity] : request) consider(name);
  return std::min(use, 1.0);
}

}  // namespace

NodeNeeds NodeNeeds::Of(ResourceSet resources, const SchedulingStrategy& strategy) {
  NodeNeeds needs{std::move(resources), ""};
  const bool has_rules = strategy.required_labels_size() > 0 ||
                         strategy.preferred_labels_size() > 0 ||
                         strategy.fallback_labels_size() > 0;
  if (!has_rules) return needs;
  SchedulingStrategy rules;
  *rules.mutable_required_labels() = strategy.required_labels();
  *rules.mutable_preferred_labels() = strategy.preferred_labels();
  *rules.mutable_fallback_labels() = strategy.fallback_labels();
  needs.label_rules = rules.SerializeAsString();
  return needs;
}

// The nodes that suit one kind of request, those with room by score.
class NodeChooser::Index {
 public:
  Index(const NodeNeeds& needs, const Options* options, const ClusterView* view)
      : resources_(needs.resources),
        wants_gpu_(!needs.resources.Get(resources::kGpu).IsZero()),
        options_(options),
        view_(view) {
    MANTA_CHECK(rules_.ParseFromString(needs.label_rules));
    at_choice_.resize(rules_.fallback_labels_size() + 1);
  }

  void CatchUp() {
    if (next_change_ < view_->log_begin()) {
      for (Seat seat = 0; seat < view_->seats(); ++seat) Refresh(seat);
    } else {
      for (; next_change_ < view_->log_end(); ++next_change_) {
        Refresh(view_->changed(next_change_));
      }
    }
    next_change_ = view_->log_end();
  }

  std::optional<NodeId> Hybrid(std::mt19937_64* random, const NodeId& other_than) const {
    const Entry* other = Find(other_than);
    const int best = FirstBucket(other);
    if (best == kNone) return std::nullopt;
    const Entry* self = Find(options_->self);
    if (self != nullptr && self != other && self->bucket == best) return options_->self;

    // The k best of the same tier; `other` counts, and its turn goes to the next one.
    const int tier_end = (best / kScores + 1) * kScores;
    size_t in_tier = 0;
    for (int b = best; b < tier_end; ++b) in_tier += buckets_[b].size();
    const auto wanted =
        static_cast<size_t>(options_->top_k_fraction * static_cast<double>(view_->size()));
    const size_t k = std::min(in_tier, std::max<size_t>(1, wanted));
    const size_t first = std::uniform_int_distribution<size_t>(0, k - 1)(*random);
    const NodeId chosen = Ranked(best, tier_end, first);
    if (chosen != other_than) return chosen;
    return Ranked(best, tier_end, (first + 1) % in_tier);
  }

  // The next one after the cursor that has room, in the order of seats.
  std::optional<NodeId> NextInTurn(uint64_t* cursor, const NodeId& other_than) const {
    const size_t words = has_room_.size();
    if (words == 0) return std::nullopt;
    const Seat begin = static_cast<Seat>(*cursor % (words * 64));
    for (size_t i = 0; i <= words; ++i) {
      const size_t word = (begin / 64 + i) % words;
      uint64_t bits = has_room_[word];
      if (i == 0) bits &= ~uint64_t{0} << (begin % 64);
      if (i == words) bits &= ~(~uint64_t{0} << (begin % 64));
      for (; bits != 0; bits &= bits - 1) {
        const auto seat = static_cast<Seat>(word * 64 + std::countr_zero(bits));
        if (view_->at(seat).id == other_than) continue;
        *cursor = seat + 1;
        return view_->at(seat).id;
      }
    }
    return std::nullopt;
  }

  bool HasRoom(const NodeId& node) const {
    const Entry* entry = Find(node);
    return entry != nullptr && entry->bucket != kNone;
  }
  bool MayWaitAt(const NodeId& node) const {
    const Entry* entry = Find(node);
    return entry != nullptr && entry->usable;
  }
  bool IsFeasible() const { return choice_ != kNone; }

  std::optional<NodeId> ToWaitAt(std::mt19937_64* random, size_t waiting_max,
                                 absl::FunctionRef<size_t(const NodeId&)> waiting) const {
    const size_t n = usable_.size();
    if (n == 0) return std::nullopt;
    const size_t start = n <= kCompared ? 0 : (*random)() % n;
    std::optional<NodeId> best;
    std::pair<size_t, double> best_rank;
    for (size_t i = 0; i < std::min(n, kCompared); ++i) {
      // Some way apart, so that what is compared differs from time to time.
      const ClusterView::Node& node = view_->at(usable_[(start + i * (n / kCompared + 1)) % n]);
      const std::pair<size_t, double> rank{waiting(node.id), UseOf(node, resources_)};
      if (rank.first >= waiting_max || (best.has_value() && rank >= best_rank)) continue;
      best = node.id;
      best_rank = rank;
    }
    return best;
  }

  void Refused(const NodeId& node) {
    if (Find(node) == nullptr) return;
    const Seat seat = view_->SeatOf(node);
    entries_[seat].refused_at = view_->at(seat).heard;
    Refresh(seat);
  }

  void CheckInvariants() const {
    size_t with_room = 0;
    for (Seat seat = 0; seat < view_->seats(); ++seat) {
      const ClusterView::Node& node = view_->at(seat);
      const Entry& entry = entries_[seat];
      MANTA_CHECK(entry.choice == ChoiceFor(node));
      MANTA_CHECK(entry.usable ==
                  (node.reachable && entry.choice != kNone && entry.choice == choice_));
      MANTA_CHECK(entry.bucket == BucketFor(node, entry));
      with_room += entry.bucket != kNone ? 1 : 0;
      MANTA_CHECK(HasBit(seat) == (entry.bucket != kNone));
    }
    for (const auto& bucket : buckets_) with_room -= bucket.size();
    MANTA_CHECK(with_room == 0);
  }

 private:
  struct Entry {
    uint64_t character = 0;   // of the node when `choice` and `tier` were found
    uint64_t refused_at = 0;  // what was heard of the node then
    int choice = kNone;       // see LabelChoice; kNone: could never hold it, or drains
    int tier = 0;
    bool usable = false;  // of the choice that counts, and reachable
    int bucket = kNone;   // kNone: no room
    uint32_t in_bucket = 0;
    uint32_t in_usable = 0;
  };

  const Entry* Find(const NodeId& node) const {
    if (view_->Find(node) == nullptr) return nullptr;
    return &entries_[view_->SeatOf(node)];
  }

  int ChoiceFor(const ClusterView::Node& node) const {
    if (node.id.IsNil() || node.draining || !resources_.FitsIn(node.total)) return kNone;
    return LabelChoice(rules_, node.labels);
  }

  int TierFor(const ClusterView::Node& node) const {
    const bool preferred = MatchesAll(rules_.preferred_labels(), node.labels);
    const bool spared = !wants_gpu_ && !node.total.Get(resources::kGpu).IsZero();
    return (preferred ? 0 : 2) + (spared ? 1 : 0);
  }

  int BucketFor(const ClusterView::Node& node, const Entry& entry) const {
    if (!entry.usable || entry.refused_at >= node.heard || !resources_.FitsIn(node.room)) {
      return kNone;
    }
    const double use = UseOf(node, resources_);
    const int score =
        use < options_->spread_threshold ? 0 : 1 + static_cast<int>(use * (kSteps - 1));
    return entry.tier * kScores + score;
  }

  void Refresh(Seat seat) {
    if (entries_.size() <= seat) {
      entries_.resize(view_->seats());
      has_room_.resize((view_->seats() + 63) / 64);
    }
    const ClusterView::Node& node = view_->at(seat);
    Entry& entry = entries_[seat];
    if (entry.character != node.character) {
      entry.character = node.character;
      entry.refused_at = 0;
      if (entry.choice != kNone) --at_choice_[entry.choice];
      entry.choice = ChoiceFor(node);
      entry.tier = entry.choice == kNone ? 0 : TierFor(node);
      if (entry.choice != kNone) ++at_choice_[entry.choice];
      const auto first =
          std::find_if(at_choice_.begin(), at_choice_.end(), [](uint32_t n) { return n > 0; });
      const int choice =
          first == at_choice_.end() ? kNone : static_cast<int>(first - at_choice_.begin());
      if (choice != choice_) {
        choice_ = choice;
        for (Seat other = 0; other < entries_.size(); ++other) Reseat(other);
      }
    }
    Reseat(seat);
  }

  void Reseat(Seat seat) {
    const ClusterView::Node& node = view_->at(seat);
    Entry& entry = entries_[seat];
    const bool usable = node.reachable && entry.choice != kNone && entry.choice == choice_;
    if (usable != entry.usable) {
      entry.usable = usable;
      if (usable) {
        Insert(&usable_, seat, &Entry::in_usable);
      } else {
        Erase(&usable_, seat, &Entry::in_usable);
      }
    }
    const int bucket = BucketFor(node, entry);
    if (bucket == entry.bucket) return;
    if (entry.bucket != kNone) Erase(&buckets_[entry.bucket], seat, &Entry::in_bucket);
    entry.bucket = bucket;
    if (bucket != kNone) Insert(&buckets_[bucket], seat, &Entry::in_bucket);
    const uint64_t bit = uint64_t{1} << (seat % 64);
    has_room_[seat / 64] &= ~bit;
    if (bucket != kNone) has_room_[seat / 64] |= bit;
  }

  bool HasBit(Seat seat) const { return ((has_room_[seat / 64] >> (seat % 64)) & 1) != 0; }

  void Insert(std::vector<Seat>* seats, Seat seat, uint32_t Entry::*position) {
    entries_[seat].*position = static_cast<uint32_t>(seats->size());
    seats->push_back(seat);
  }
  void Erase(std::vector<Seat>* seats, Seat seat, uint32_t Entry::*position) {
    const uint32_t hole = entries_[seat].*position;
    (*seats)[hole] = seats->back();
    entries_[(*seats)[hole]].*position = hole;
    seats->pop_back();
  }

  // The first that has nodes besides `other`.
  int FirstBucket(const Entry* other) const {
    for (int b = 0; b < static_cast<int>(buckets_.size()); ++b) {
      const size_t apart = other != nullptr && other->bucket == b ? 1 : 0;
      if (buckets_[b].size() > apart) return b;
    }
    return kNone;
  }

  NodeId Ranked(int from, int to, size_t rank) const {
    for (int b = from; b < to; ++b) {
      if (rank < buckets_[b].size()) return view_->at(buckets_[b][rank]).id;
      rank -= buckets_[b].size();
    }
    return view_->at(buckets_[from].front()).id;
  }

  const ResourceSet resources_;
  const bool wants_gpu_;
  SchedulingStrategy rules_;
  const Options* const options_;
  const ClusterView* const view_;
  uint64_t next_change_ = 0;
  std::vector<Entry> entries_;       // by seat
  std::vector<uint32_t> at_choice_;  // nodes of each label choice
  int choice_ = kNone;               // the first that has nodes: the one that counts
  std::vector<Seat> usable_;
  std::array<std::vector<Seat>, kTiers * kScores> buckets_;
  std::vector<uint64_t> has_room_;  // a bit for each seat
};

NodeChooser::NodeChooser(Options options, const ClusterView* view)
    : options_(options), view_(view), random_(options.seed), spread_cursor_(random_() % 64) {}

NodeChooser::~NodeChooser() = default;

NodeChooser::Index* NodeChooser::IndexOf(const NodeNeeds& needs) {
  auto found = by_needs_.find(needs);
  if (found != by_needs_.end()) {
    indexes_.splice(indexes_.begin(), indexes_, found->second);
  } else {
    if (indexes_.size() >= options_.kinds_max) {
      by_needs_.erase(indexes_.back().first);
      indexes_.pop_back();
    }
    indexes_.emplace_front(needs, std::make_unique<Index>(needs, &options_, view_));
    by_needs_.emplace(needs, indexes_.begin());
  }
  Index* index = indexes_.front().second.get();
  index->CatchUp();
  return index;
}

std::optional<NodeId> NodeChooser::WithRoom(const NodeNeeds& needs, bool spread,
                                            const NodeId& other_than) {
  Index* index = IndexOf(needs);
  if (spread) return index->NextInTurn(&spread_cursor_, other_than);
  return index->Hybrid(&random_, other_than);
}

bool NodeChooser::HasRoom(const NodeNeeds& needs, const NodeId& node) {
  return IndexOf(needs)->HasRoom(node);
}

bool NodeChooser::MayWaitAt(const NodeNeeds& needs, const NodeId& node) {
  return IndexOf(needs)->MayWaitAt(node);
}

std::optional<NodeId> NodeChooser::ToWaitAt(const NodeNeeds& needs, size_t waiting_max,
                                            absl::FunctionRef<size_t(const NodeId&)> waiting) {
  return IndexOf(needs)->ToWaitAt(&random_, waiting_max, waiting);
}

bool NodeChooser::IsFeasible(const NodeNeeds& needs) { return IndexOf(needs)->IsFeasible(); }

void NodeChooser::Refused(const NodeNeeds& needs, const NodeId& node) {
  IndexOf(needs)->Refused(node);
}

void NodeChooser::CheckInvariants() {
  for (auto& [needs, index] : indexes_) {
    index->CatchUp();
    index->CheckInvariants();
  }
}

}  // namespace ray::scheduling
