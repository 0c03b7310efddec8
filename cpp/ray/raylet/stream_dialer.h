// Streams of bytes to other nodes' raylets, until they are open: over TCP, or from socket to socket
// on one machine, with the other store's memory.
//
// Owner: TransferService.   Threads: loop-bound; what OpenHere returns is for the stream's thread.
// Errors: kUnavailable: the node is gone, cannot be reached, or another one answers.
#pragma once

#include <functional>

#include "absl/functional/any_invocable.h"
#include "ray/base/ids.h"
#include "ray/net/connection.h"
#include "ray/net/event_loop.h"
#include "ray/raylet/node_identity.h"
#include "ray/raylet/node_peers.h"
#include "ray/transfer/data_stream.h"

namespace ray::raylet {

class StreamDialer {
 public:
  // Runs a function on the loop, unless the owner has ended.
  using Post = std::function<void(absl::AnyInvocable<void()>)>;

  // All pointers outlive the dialer.
  StreamDialer(net::EventLoop* loop, const NodePeers* peers, const NodeIdentity* identity,
               net::Connection::Options connection_options, Post post);

  // Over TCP; `done` is called on the loop, later.
  void Dial(const base::NodeId& node, transfer::DataFetcher::DialCallback done);
  // Null: the node's socket is not in this file system.
  transfer::DataFetcher::OpenHere OpenHere(const base::NodeId& node) const;

 private:
  net::EventLoop* const loop_;
  const NodePeers* const peers_;
  const NodeIdentity* const identity_;
  const net::Connection::Options connection_options_;
  const Post post_;
};

}  // namespace ray::raylet
