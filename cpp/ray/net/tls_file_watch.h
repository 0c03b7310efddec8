// Notices that the files of a daemon's certificates have changed, so that they can be replaced
// while it runs: before they expire, or to move to another authority.
//
// What is read counts only as a whole: as long as a key does not belong to its certificate, or a
// file cannot be read (they are being replaced one by one), everything stays as it was.
//
// Owner: a daemon.   Threads: loop-bound.   Blocks: as reading three small files does.
// Errors: files that cannot be used are said in the log, once for each content.
#pragma once

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "ray/net/event_loop.h"
#include "ray/net/tls_credentials.h"

namespace ray::net {

class TlsFileWatch {
 public:
  // Not ok: they cannot be used, and nothing has changed.
  using Use = std::function<absl::Status(const TlsCredentials&)>;

  // `present`: in use now; looks at its files each `interval`, unless it has none or that is zero.
  TlsFileWatch(EventLoop* loop, TlsCredentials present, absl::Duration interval, Use use);
  ~TlsFileWatch();
  TlsFileWatch(const TlsFileWatch&) = delete;
  TlsFileWatch& operator=(const TlsFileWatch&) = delete;

  // Now.
  void Look();

 private:
  void LookLater();
  absl::Status TakeNew();

  EventLoop* const loop_;
  const absl::Duration interval_;
  const Use use_;
  TlsCredentials present_;
  std::string said_;  // the last complaint
  EventLoop::TimerId timer_ = 0;
};

}  // namespace ray::net
