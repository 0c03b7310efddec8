#include "ray/core/store_client.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "ray/base/status_macros.h"
#include "ray/net/parse_frame.h"
#include "ray/wire/v1/frame_type.pb.h"

namespace ray::core {

using base::ObjectId;
using store::Extent;
using store::SharedMemory;

StoreClient::StoreClient(std::shared_ptr<net::Connection> raylet,
                         std::shared_ptr<store::SharedMemory> memory, const base::NodeId& node,
                         const base::Clock* clock, PinnedObject::OnRelease on_release)
    : raylet_(std::move(raylet)),
      memory_(std::move(memory)),
      node_(node),
      clock_(clock),
      on_release_(std::move(on_release)) {}

PinnedObjectPtr StoreClient::Held(const ObjectId& id) {
  auto it = held_.find(id);
  if (it == held_.end()) return nullptr;
  if (!it->second.rests) return it->second.pin.lock();
  it->second.rests = false;
  std::erase(resting_, id);
  return NewPin(id, &it->second);
}

PinnedObjectPtr StoreClient::NewPin(const ObjectId& id, Holding* holding) {
  auto pin = std::make_shared<const PinnedObject>(id, holding->bytes, holding->memory, on_release_);
  holding->pin = pin;
  return pin;
}

// Null, with the reason, if the bytes cannot be reached.
PinnedObjectPtr StoreClient::MakePin(const ObjectId& id,
                                     const wire::v1::StoreGetReply::Entry& entry,
                                     std::string* reason) {
  Extent extent{entry.offset(), entry.size_bytes()};
  std::shared_ptr<SharedMemory> memory = memory_;
  if (!entry.path().empty()) {
    auto mapped = SharedMemory::MapFile(entry.path(), extent, SharedMemory::Access::kRead);
    if (!mapped.ok()) {
      *reason = absl::StrCat("its file cannot be read: ", mapped.status().message());
      to_release_.push_back(id);
      return nullptr;
    }
    memory = *std::move(mapped);
    extent.offset = 0;
  }
  if (!memory->Contains(extent)) return nullptr;
  std::string_view bytes(reinterpret_cast<const char*>(memory->At(extent.offset)), extent.size);
  EndRest(id);  // of an earlier pin, that ended after this one was asked for
  Holding& holding = held_[id];
  holding.bytes = bytes;
  holding.memory = std::move(memory);
  holding.taken = clock_->Now();
  return NewPin(id, &holding);
}

void StoreClient::Fetch(const std::vector<StoredObject>& objects, OnFetched done) {
  std::vector<FetchedObject> fetched;
  std::vector<size_t> missing;
  wire::v1::StoreGet request;
  request.set_timeout_ms(-1);
  std::vector<ObjectId> ids;
  bool elsewhere = false;
  for (const StoredObject& object : objects) {
    ids.push_back(object.id);
    fetched.push_back({Held(object.id), false, {}});
    if (fetched.back().pin != nullptr) continue;
    missing.push_back(fetched.size() - 1);
    request.add_object_ids(object.id.BinaryString());
    elsewhere = elsewhere || !object.sources.empty();
  }
  for (size_t i = 0; elsewhere && i < missing.size(); ++i) {
    wire::v1::ObjectSource& source = *request.add_sources();
    for (const base::NodeId& node : objects[missing[i]].sources) {
      source.add_node_ids(node.BinaryString());
    }
  }
  if (missing.empty()) return done(std::move(fetched));
  EndAllRests();
  Flush();
  raylet_->Call(
      wire::v1::STORE_GET, request,
      [this, ids = std::move(ids), fetched = std::move(fetched), missing = std::move(missing),
       done = std::move(done)](absl::StatusOr<net::Frame> reply) mutable {
        if (!reply.ok()) return;  // nothing is known of the objects
        wire::v1::StoreGetReply parsed;
        net::ParseMetadata(*reply, &parsed);
        for (size_t i = 0; i < missing.size(); ++i) {
          FetchedObject& object = fetched[missing[i]];
          if (i >= static_cast<size_t>(parsed.entries_size())) break;
          const auto& entry = parsed.entries(static_cast<int>(i));
          if (entry.present()) {
            object.pin = MakePin(ids[missing[i]], entry, &object.reason);
          } else {
            object.no_memory = entry.absence() == wire::v1::StoreGetReply::Entry::NO_MEMORY;
            object.reason = entry.reason();
          }
        }
        done(std::move(fetched));
      });
}

void StoreClient::Prefetch(const StoredObject& object, OnHere done) {
  wire::v1::StoreGet request;
  request.set_timeout_ms(-1);
  request.set_prefetch(true);
  request.add_object_ids(object.id.BinaryString());
  wire::v1::ObjectSource& source = *request.add_sources();
  for (const base::NodeId& node : object.sources) source.add_node_ids(node.BinaryString());
  raylet_->Call(
      wire::v1::STORE_GET, request,
      [done = std::move(done)](absl::StatusOr<net::Frame> reply) mutable {
        if (!reply.ok()) return;
        wire::v1::StoreGetReply parsed;
        net::ParseMetadata(*reply, &parsed);
        if (parsed.entries_size() == 1 && parsed.entries(0).present()) {
          return done(nullptr);
        }
        FetchedObject failed;
        if (parsed.entries_size() == 1) {
          const auto& entry = parsed.entries(0);
          failed.no_memory = entry.absence() == wire::v1::StoreGetReply::Entry::NO_MEMORY;
          failed.reason = entry.reason();
        }
        done(&failed);
      },
      {}, net::Connection::Flush::kCoalesce);
}

void StoreClient::Create(const ObjectId& id, uint64_t size_bytes, const WorkerAddress& owner,
                         std::string_view note, OnCreated done) {
  EndAllRests();
  Flush();  // what was freed before must make room for this
  wire::v1::StoreCreate request;
  request.set_object_id(id.BinaryString());
  request.set_size_bytes(size_bytes);
  owner.ToProto(request.mutable_owner());
  request.set_note(std::string(note));
  raylet_->Call(
      wire::v1::STORE_CREATE, request,
      [this, id, size_bytes, done = std::move(done)](absl::StatusOr<net::Frame> reply) mutable {
        wire::v1::StoreCreateReply parsed;
        if (!reply.ok()) return done(reply.status());
        if (!net::ParseMetadata(*reply, &parsed)) {
          return done(absl::DataLossError("malformed STORE_CREATE reply"));
        }
        switch (parsed.outcome()) {
          case wire::v1::StoreCreateReply::CREATED: {
            absl::StatusOr<Destination> destination = MapCreated(parsed, size_bytes);
            if (!destination.ok()) Abort(id);
            return done(std::move(destination));
          }
          case wire::v1::StoreCreateReply::EXISTS:
            return done(absl::AlreadyExistsError("the object is in the store"));
          case wire::v1::StoreCreateReply::OUT_OF_DISK:
            return done(absl::OutOfRangeError(parsed.message()));
          default:
            return done(absl::ResourceExhaustedError(parsed.message()));
        }
      });
}

absl::StatusOr<StoreClient::Destination> StoreClient::MapCreated(
    const wire::v1::StoreCreateReply& reply, uint64_t size_bytes) const {
  Extent extent{reply.offset(), size_bytes};
  if (!reply.path().empty()) {
    MANTA_ASSIGN_OR_RETURN(
        std::shared_ptr<SharedMemory> file,
        SharedMemory::MapFile(reply.path(), extent, SharedMemory::Access::kWrite));
    return Destination{std::move(file), 0};
  }
  if (!memory_->Contains(extent)) {
    return absl::InternalError("the raylet named memory outside of the store");
  }
  return Destination{memory_, extent.offset};
}

void StoreClient::Seal(const ObjectId& id) {
  wire::v1::StoreSeal message;
  message.set_object_id(id.BinaryString());
  raylet_->Send(wire::v1::STORE_SEAL, message, {}, net::Connection::Flush::kDefer);
  wire::v1::StoreIds release;
  release.add_object_ids(id.BinaryString());
  raylet_->Send(wire::v1::STORE_RELEASE, release);
}

void StoreClient::Abort(const ObjectId& id) {
  wire::v1::StoreAbort message;
  message.set_object_id(id.BinaryString());
  raylet_->Send(wire::v1::STORE_ABORT, message);
}

void StoreClient::Free(const ObjectId& id, const base::NodeId& node) {
  EndRest(id);
  to_free_[node].push_back(id);
}

bool StoreClient::Release(const ObjectId& id, bool may_rest) {
  auto it = held_.find(id);
  // A newer pin of the same object may have taken the place of the one that ended.
  const bool is_last = it != held_.end() && !it->second.rests && it->second.pin.expired();
  if (is_last && may_rest && clock_->Now() - it->second.taken < kRestMax) {
    if (resting_.size() == kRestingMax) EndRest(resting_.front());
    held_[id].rests = true;
    resting_.push_back(id);
    return true;
  }
  to_release_.push_back(id);
  if (is_last) held_.erase(it);
  return false;
}

void StoreClient::EndRest(ObjectId id) {
  if (std::erase(resting_, id) == 0) return;
  held_.erase(id);
  to_release_.push_back(id);
}

void StoreClient::EndAllRests() {
  while (!resting_.empty()) EndRest(resting_.back());
}

bool StoreClient::EndRests() {
  const absl::Time now = clock_->Now();
  for (const ObjectId& id : std::vector<ObjectId>(resting_)) {
    if (now - held_.at(id).taken >= kRestMax) EndRest(id);
  }
  return !resting_.empty();
}

void StoreClient::Flush() {
  auto send = [this](wire::v1::FrameType type, const std::vector<ObjectId>& ids,
                     const base::NodeId& node) {
    wire::v1::StoreIds message;
    for (const ObjectId& id : ids) message.add_object_ids(id.BinaryString());
    if (node != node_) message.set_node_id(node.BinaryString());
    raylet_->Send(type, message);
  };
  if (!to_release_.empty()) send(wire::v1::STORE_RELEASE, std::exchange(to_release_, {}), node_);
  for (const auto& [node, ids] : std::exchange(to_free_, {})) {
    send(wire::v1::STORE_FREE, ids, node);
  }
}

}  // namespace ray::core
