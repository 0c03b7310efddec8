// The bytes of objects between two nodes: streams of fixed requests and answers, apart from the
// connections for frames, each served by a thread of its own with blocking I/O at either end.
//
// All numbers are little endian.
//   request (48): object id 28, 4 zero bytes, offset in the object 8, length 8
//     length 0: the bytes of the oldest answer are here; it is not answered
//   answer  (24): status 4, 4 zero bytes, length 8, place 8
//     status 0: `length` bytes follow    1: not granted    2: they are at `place` of the memory
//     file
// Answers come in the order of requests. Over TCP the source sends from its memory file without a
// copy (with TLS: encrypts from there), and the puller receives straight into the memory that it
// has reserved. A puller on the same machine reaches the source by its Unix socket, is handed the
// memory file, and copies itself; what lies in a file of its own is sent in either case
// (docs/adr/0010-transfer-on-one-machine.md). Either way the bytes are stable: they stay pinned
// there until the puller has said that it has them, or the stream ends.
//
// Errors: a peer that sends what is not granted, or breaks off, ends that stream and nothing else.
//   DATA-1  only bytes of a granted object that are here are sent, to the node that they were
//           granted to.
//   DATA-2  what was answered stays as it is until it was acknowledged: Grant::unused runs after.
//   DATA-3  nothing is written into an object's memory after its fetch was reported.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "ray/base/ids.h"
#include "ray/net/endpoint.h"
#include "ray/net/tls_channel.h"
#include "ray/store/extent.h"
#include "ray/store/shared_memory.h"
#include "ray/transfer/grant_table.h"

namespace ray::transfer {

// A socket whose HELLO is over.
struct StreamSocket {
  net::UniqueFd fd;
  std::unique_ptr<net::TlsChannel> tls;  // null: plain text
  std::string already_read;              // bytes that came after it
  // The source's memory, if it is on this machine: it answers with places, not bytes.
  std::unique_ptr<store::SharedMemory> source_memory;
};

// The source's end.
// Owner: TransferService.   Threads: loop-bound, with a thread a stream.
class DataServer {
 public:
  // Both outlive the server.
  DataServer(const store::SharedMemory* memory, const GrantTable* grants);
  // Breaks all streams off; waits for their threads, which is short.
  ~DataServer();

  // Serves a stream that this node's raylet opened, until either side breaks it off. `shared`: it
  // has this node's memory.
  void Serve(StreamSocket socket, const base::NodeId& node, bool shared);
  // Breaks its streams off.
  void NodeGone(const base::NodeId& node);
  size_t streams() const;

 private:
  struct Stream;
  void ForgetEnded();

  const store::SharedMemory* const memory_;
  const GrantTable* const grants_;
  std::vector<std::unique_ptr<Stream>> streams_;
};

// The puller's end.
// Owner: TransferService.   Threads: loop-bound, with a thread a stream.
class DataFetcher {
 public:
  using DialCallback = absl::AnyInvocable<void(absl::StatusOr<StreamSocket>)>;
  // Opens a stream to a node: connects and says HELLO. Answers on the loop, later.
  using Dial = std::function<void(const base::NodeId&, DialCallback)>;
  // Opens a stream to a node of this machine; blocks for a short time. Null: it is not on this
  // machine, as far as one can see. Where it fails, the node is dialed.
  using OpenHere = absl::AnyInvocable<absl::StatusOr<StreamSocket>()>;
  using Post = std::function<void(absl::AnyInvocable<void()>)>;
  // On the loop; not ok: the bytes are not there.
  using Done = absl::AnyInvocable<void(absl::Status)>;

  // Where bytes are to go: into the fetcher's memory, or into a file that is mapped.
  struct Destination {
    uint64_t offset = 0;
    std::shared_ptr<const store::SharedMemory> file = nullptr;
  };

  struct Options {
    size_t streams = 2;  // to one node
    Dial dial;
    Post post;  // runs a function on the loop, unless the fetcher's owner is gone; thread-safe
    std::function<OpenHere(const base::NodeId&)> open_here = nullptr;  // null: nothing is
  };

  // `memory` outlives the fetcher.
  DataFetcher(const store::SharedMemory* memory, Options options);
  // Breaks all streams off; waits for their threads, which is short. Fetches are not answered.
  ~DataFetcher();

  // Bytes [part] of an object of that node.
  void Fetch(const base::NodeId& node, const base::ObjectId& id, store::Extent part, Destination to,
             Done done);
  // Breaks the streams to it off: what is fetched from there fails.
  void NodeGone(const base::NodeId& node);

 private:
  struct Job;
  class Stream;
  struct Peer;

  void OpenStreams(const base::NodeId& node, const std::shared_ptr<Peer>& peer);
  void OnDialed(const base::NodeId& node, const std::shared_ptr<Peer>& peer,
                absl::StatusOr<StreamSocket> socket);
  void AddStream(const base::NodeId& node, const std::shared_ptr<Peer>& peer, OpenHere open);
  void OnStreamEnded(const base::NodeId& node, const std::shared_ptr<Peer>& peer, Stream* stream,
                     const absl::Status& why, bool opened);
  void FailAllWithoutStreams(const base::NodeId& node, const std::shared_ptr<Peer>& peer,
                             const absl::Status& why);

  // What nobody will fetch any more.
  static std::deque<Job> End(Peer* peer);

  const store::SharedMemory* const memory_;
  const Options options_;
  absl::flat_hash_map<base::NodeId, std::shared_ptr<Peer>> peers_;
  std::vector<std::shared_ptr<Peer>> leaving_;  // of dead nodes, until their threads have ended
  // Callbacks that come after the end see that it expired.
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace ray::transfer
