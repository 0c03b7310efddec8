// What ObjectStore consists of. Its parts are in files of their own: objects, pages and the
// progress of all (object_store.cc), creations (object_store_creates.cc), gets
// (object_store_gets.cc). Owner: ObjectStore.   Contract: as that one's.
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/node_hash_map.h"
#include "absl/strings/string_view.h"
#include "ray/store/client_record.h"
#include "ray/store/create_queue.h"
#include "ray/store/get_queue.h"
#include "ray/store/object_store.h"
#include "ray/store/object_table.h"
#include "ray/store/recent_map.h"
#include "ray/store/spiller.h"
#include "ray/store/store_report.h"

namespace ray::store {

inline constexpr char kFreedReason[] = "its owner freed it";
inline constexpr char kOwnerDiedReason[] = "its owner died";

class ObjectStore::Impl final : private ObjectTable::Listener, private Spiller::Listener {
 public:
  Impl(const ObjectStoreOptions& options, const base::Clock* clock, SpillTarget* spill_target,
       PageReturner* page_returner);

  absl::Status Create(ClientId client, CreateRequest request, CreateCallback callback);
  absl::Status Seal(ClientId client, const base::ObjectId& id);
  void Abort(ClientId client, const base::ObjectId& id);
  void Get(ClientId client, std::vector<base::ObjectId> ids, absl::Duration timeout,
           GetCallback callback);
  absl::Status Release(ClientId client, const base::ObjectId& id);
  void Free(absl::Span<const base::ObjectId> ids);
  bool Contains(const base::ObjectId& id) const;
  void MadeElsewhere(const base::ObjectId& id);
  void FailGets(const base::ObjectId& id, GetReply::Outcome outcome, std::string reason);
  void OnEviction(EvictionCallback callback) { on_eviction_ = std::move(callback); }
  std::optional<ObjectInfo> Find(const base::ObjectId& id) const;
  std::optional<ClientId> FirstWaitingCreator() const;
  void NameClient(ClientId client, std::string name) { clients_[client].name = std::move(name); }
  void ClientGone(ClientId client);
  void OwnerGone(const base::WorkerId& owner);
  void MarkWarm(Extent extent) { table_.arena().MarkWarm(extent); }
  void Tick();
  absl::Time NextDeadline() const;
  const ObjectTable& table() const { return table_; }
  uint64_t disk_bytes() const { return spiller_.disk_bytes(); }
  StoreStats Stats() const;
  std::vector<base::ObjectId> PrimaryCopies() const;
  bool MakePrimary(const base::ObjectId& id);
  std::string Breakdown() const { return DescribeUse(Stats(), table_, clients_); }
  void CheckInvariants() const;

 private:
  // The one Get whose spilled objects are being restored. It pins what it has so far; as no other
  // waiting Get pins anything, two Gets never hold the memory that each other needs.
  struct RestoringGet {
    GetNumber number;
    size_t next = 0;  // ids before this one are pinned or gone
    absl::btree_set<base::ObjectId> pinned;
    absl::btree_set<base::ObjectId> reading;            // of the pinned: kRestoring
    absl::Time blocked_since = absl::InfiniteFuture();  // for want of memory
    bool use_files = false;  // it waited long enough: what finds no memory is mapped
  };
  struct QueuedReply {
    ClientId client;
    absl::AnyInvocable<void()> run;
  };

  // --- objects
  void OnDelete(const Object& object) override;
  bool IsResolved(const base::ObjectId& id) const;
  void MarkGone(const base::ObjectId& id, const char* reason);
  void FreeObject(const base::ObjectId& id, const char* reason);
  Object* FindWrittenBy(ClientId client, const base::ObjectId& id);
  void DropUnsealed(ClientRecord& client, Object& object);

  // --- creations
  void Admit(WaitingCreate create);
  bool AnswerFromTable(WaitingCreate& create);
  void AdvanceCreates();
  void Grant(WaitingCreate create, Extent block);
  void Granted(Object& object, WaitingCreate create, CreateReply reply);
  void StartFile(WaitingCreate create);
  void OnFileMade(uint64_t number, absl::StatusOr<Spiller::OwnFile> file);
  bool MayStartFile() const;
  bool DropFileCopies();
  void RefuseCreate(WaitingCreate create);
  void ReplyCreate(WaitingCreate create, CreateReply reply);
  void ExpireCreates(absl::Time now);
  bool CreatesBlocked() const { return !creates_.empty(); }

  // --- gets
  void AdvanceGets();
  bool AdvanceRestoring();
  bool RestoreNext(const base::ObjectId& id);
  void PinForRestoring(Object& object);
  void EndRestoring();
  void OnWritten() override { Settle(); }
  void OnRead(const base::ObjectId& id, absl::Status status) override;
  void OnNotMapped(const base::ObjectId& id, const absl::Status& why) override;
  absl::Time BlockedGetDeadline() const;
  bool NeedsRestoring(const std::vector<base::ObjectId>& ids) const;
  // Answers with what is in memory now. full_reason: why the rest of what is here could not be
  // restored, if so.
  void CompleteGet(GetNumber number, absl::string_view full_reason = {});
  GetReply Answer(const WaitingGet& get, absl::string_view full_reason);
  GetReply::Entry AnswerOne(const WaitingGet& get, const base::ObjectId& id,
                            absl::string_view full_reason) const;
  void ExpireGets(absl::Time now);

  // --- progress
  absl::Time StuckTime() const;
  void NoteProgress();

  // --- pages
  absl::Time PageReturnTime() const;
  void ReturnPages(absl::Time now);

  // Does all that has become possible, then runs the replies. Every public change ends with it.
  void Settle();
  void RunReplies();

  static constexpr size_t kGoneObjectsMax =
      16'384;  // remembered, so that a late Get is told at once
  static constexpr size_t kDeadOwnersMax =
      4'096;  // remembered, so that a late creation leaks nothing

  const ObjectStoreOptions options_;
  const base::Clock* const clock_;
  PageReturner* const page_returner_;

  ObjectTable table_;
  Spiller spiller_;
  CreateQueue creates_;
  GetQueue gets_;
  std::optional<RestoringGet> restoring_;
  absl::node_hash_map<ClientId, ClientRecord> clients_;
  RecentMap<base::ObjectId, std::string> gone_{kGoneObjectsMax};  // why each is gone
  RecentMap<base::WorkerId, bool> dead_owners_{kDeadOwnersMax};

  EvictionCallback on_eviction_;

  std::deque<QueuedReply> replies_;
  bool settling_ = false;
  bool settle_again_ = false;

  // What changes when room is made or taken, and when it last did.
  struct Progress {
    uint64_t free_bytes = 0;
    uint64_t spillable_bytes = 0;
    uint64_t droppable_bytes = 0;
    bool writing = false;
    friend bool operator==(const Progress&, const Progress&) = default;
  };
  Progress progress_;
  absl::Time last_progress_;

  bool returning_pages_ = false;
  absl::Time last_allocation_;
  // The page returner outlives this and holds it weakly.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace ray::store
