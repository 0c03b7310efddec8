// transfer/data_stream.h in the virtual world: the bytes of objects travel as packets of the socket
// that was opened for them.
#include "ray/transfer/data_stream.h"

#include <cstring>
#include <map>
#include <utility>

#include "ray/base/check.h"
#include "tests/sim/world/world.h"

namespace ray::transfer {

using base::NodeId;
using base::ObjectId;
using sim::Packet;
using sim::Socket;
using sim::World;
using store::Extent;

namespace {

struct Request {
  ObjectId id;
  Extent part;
};

}  // namespace

// --- The source

struct DataServer::Stream {
  net::UniqueFd fd;
  NodeId node;
};

DataServer::DataServer(const store::SharedMemory* memory, const GrantTable* grants)
    : memory_(memory), grants_(grants) {}

DataServer::~DataServer() = default;

void DataServer::Serve(StreamSocket socket, const NodeId& node, bool) {
  auto stream = std::make_unique<Stream>();
  stream->fd = std::move(socket.fd);
  stream->node = node;
  World* world = World::Current();
  Socket* end = world->FindSocket(stream->fd.get());
  world->Attach(
      end,
      [this, world, end, node](const Packet& packet) {
        const auto& request = *static_cast<const Request*>(packet.body.get());
        Packet answer;
        answer.number = packet.number;
        std::shared_ptr<const GrantTable::Grant> grant = grants_->Find(node, request.id);
        if (grant == nullptr || !grant->Allows(request.part)) {
          answer.flags = 1;
        } else {
          MANTA_CHECK_MSG(!grant->file.valid(), "objects in files are not simulated");
          answer.payload.assign(reinterpret_cast<const char*>(
                                    memory_->At(grant->extent.offset + request.part.offset)),
                                request.part.size);
        }
        world->Send(end, std::move(answer));
      },
      [world, end](const absl::Status&) { world->Close(end->fd); });
  streams_.push_back(std::move(stream));
}

void DataServer::NodeGone(const NodeId& node) {
  std::erase_if(streams_, [&](const auto& stream) { return stream->node == node; });
}

size_t DataServer::streams() const { return streams_.size(); }

// --- The puller

struct DataFetcher::Job {
  ObjectId id;
  Extent part;
  Destination to;
  Done done;
};

struct DataFetcher::Peer {
  bool dialing = false;
  bool gone = false;
  net::UniqueFd fd;
  uint64_t last_number = 0;
  std::deque<Job> waiting;
  std::map<uint64_t, Job> asked;
};

class DataFetcher::Stream {};

DataFetcher::DataFetcher(const store::SharedMemory* memory, Options options)
    : memory_(memory), options_(std::move(options)) {}

DataFetcher::~DataFetcher() = default;

void DataFetcher::Fetch(const NodeId& node, const ObjectId& id, Extent part, Destination to,
                        Done done) {
  std::shared_ptr<Peer>& peer = peers_[node];
  if (peer == nullptr) peer = std::make_shared<Peer>();
  peer->waiting.push_back({id, part, std::move(to), std::move(done)});
  OpenStreams(node, peer);
}

// Asks for all that waits, on the stream or on one that is opened first.
void DataFetcher::OpenStreams(const NodeId& node, const std::shared_ptr<Peer>& peer) {
  World* world = World::Current();
  if (peer->fd.valid()) {
    Socket* socket = world->FindSocket(peer->fd.get());
    for (Job& job : std::exchange(peer->waiting, {})) {
      Packet packet;
      packet.number = ++peer->last_number;
      packet.body = std::make_shared<const Request>(Request{job.id, job.part});
      peer->asked.emplace(packet.number, std::move(job));
      world->Send(socket, std::move(packet));
    }
    return;
  }
  if (std::exchange(peer->dialing, true)) return;
  options_.dial(node, [this, alive = std::weak_ptr<bool>(alive_), node,
                       peer](absl::StatusOr<StreamSocket> socket) {
    if (!alive.expired()) OnDialed(node, peer, std::move(socket));
  });
}

void DataFetcher::OnDialed(const NodeId& node, const std::shared_ptr<Peer>& peer,
                           absl::StatusOr<StreamSocket> socket) {
  peer->dialing = false;
  if (!socket.ok() || peer->gone) {
    return FailAllWithoutStreams(
        node, peer, socket.ok() ? absl::UnavailableError("the node is gone") : socket.status());
  }
  peer->fd = std::move(socket->fd);
  World* world = World::Current();
  world->Attach(
      world->FindSocket(peer->fd.get()),
      [this, peer](const Packet& packet) {
        auto job = peer->asked.extract(packet.number);
        if (job.empty()) return;
        const bool granted = packet.flags == 0;
        if (granted) {
          MANTA_CHECK_MSG(job.mapped().to.file == nullptr, "objects in files are not simulated");
          std::memcpy(memory_->At(job.mapped().to.offset), packet.payload.data(),
                      packet.payload.size());
        }
        options_.post([done = std::move(job.mapped().done), granted]() mutable {
          done(granted ? absl::OkStatus() : absl::NotFoundError("it was not granted"));
        });
      },
      [this, node, peer](const absl::Status& why) {
        peer->fd.Reset(-1);
        FailAllWithoutStreams(node, peer, why);
      });
  OpenStreams(node, peer);
}

void DataFetcher::FailAllWithoutStreams(const NodeId&, const std::shared_ptr<Peer>& peer,
                                        const absl::Status& why) {
  for (Job& job : End(peer.get())) {
    options_.post([done = std::move(job.done), why]() mutable { done(why); });
  }
}

std::deque<DataFetcher::Job> DataFetcher::End(Peer* peer) {
  std::deque<Job> jobs = std::exchange(peer->waiting, {});
  for (auto& [number, job] : std::exchange(peer->asked, {})) jobs.push_back(std::move(job));
  return jobs;
}

void DataFetcher::NodeGone(const NodeId& node) {
  auto found = peers_.extract(node);
  if (found.empty()) return;
  found.mapped()->gone = true;
  found.mapped()->fd.Reset(-1);
  FailAllWithoutStreams(node, found.mapped(), absl::UnavailableError("the node is gone"));
}

}  // namespace ray::transfer
